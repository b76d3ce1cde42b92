"""EoMT: a mask transformer that is nothing but a plain ViT with queries in its last blocks (arXiv 2503.19108)."""

from mask2former.modeling.eomt.head import EoMTHead
from mask2former.modeling.eomt.model import EoMT

__all__ = ["EoMT", "EoMTHead"]
