"""Coarse masks, as an annotator or another model would draw them, made from true ones."""

from mask2former.data.guide.coarse import KINDS, coarse_mask
from mask2former.data.guide.marking import Marking

__all__ = ["KINDS", "Marking", "coarse_mask"]
