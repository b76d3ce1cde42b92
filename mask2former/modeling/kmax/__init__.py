"""kMaX-DeepLab: masks as clusters of pixels, found by a hard assignment in each layer (arXiv 2207.04044)."""

from mask2former.modeling.kmax.decoder import kMaXTransformerDecoder
from mask2former.modeling.kmax.head import kMaXDeepLabHead
from mask2former.modeling.kmax.located import LocatedkMaXDecoder
from mask2former.modeling.kmax.model import kMaXDeepLab
from mask2former.modeling.kmax.pixel_decoder import kMaXPixelDecoder

__all__ = ["LocatedkMaXDecoder", "kMaXDeepLab", "kMaXDeepLabHead", "kMaXPixelDecoder", "kMaXTransformerDecoder"]
