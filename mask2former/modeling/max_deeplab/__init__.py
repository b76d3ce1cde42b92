"""MaX-DeepLab: masks as a softmax over slots of a memory that talks with pixels (arXiv 2012.00759)."""

from mask2former.modeling.max_deeplab.head import MaXDeepLabHead
from mask2former.modeling.max_deeplab.model import MaXDeepLab

__all__ = ["MaXDeepLab", "MaXDeepLabHead"]
