"""Loading, saving and converting weights."""

from mask2former.checkpoint.checkpointer import MaskFormerCheckpointer

__all__ = ["MaskFormerCheckpointer"]
