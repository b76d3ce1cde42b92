"""The clip model: all frames of a clip in one pass, and a query is one object in all of them."""

from mask2former.modeling.video.decoder import VideoMultiScaleMaskedTransformerDecoder
from mask2former.modeling.video.model import VideoMaskFormer
from mask2former.modeling.video.tracks import track_results

__all__ = ["VideoMaskFormer", "VideoMultiScaleMaskedTransformerDecoder", "track_results"]
