"""The clip model: all frames of a clip in one pass, and a query is one object in all of them."""

from mask2former.modeling.postprocess import track_results
from mask2former.modeling.video.decoder import VideoMultiScaleMaskedTransformerDecoder
from mask2former.modeling.video.model import VideoMaskFormer

__all__ = ["VideoMaskFormer", "VideoMultiScaleMaskedTransformerDecoder", "track_results"]
