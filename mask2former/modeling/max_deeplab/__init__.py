"""MaX-DeepLab: a memory of slots that talks to the pixels throughout the network (arXiv 2012.00759)."""

from mask2former.modeling.max_deeplab.backbone import D2MaXDeepLab
from mask2former.modeling.max_deeplab.head import MaXDeepLabHead
from mask2former.modeling.max_deeplab.model import MaXDeepLab

__all__ = ["D2MaXDeepLab", "MaXDeepLab", "MaXDeepLabHead"]
