"""The decoder of the clip model: that of images, whose positions tell the frame too."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode

from mask2former.modeling.transformer_decoder import TRANSFORMER_DECODER_REGISTRY, MultiScaleMaskedTransformerDecoder


@TRANSFORMER_DECODER_REGISTRY.register()
class VideoMultiScaleMaskedTransformerDecoder(MultiScaleMaskedTransformerDecoder):
    """:class:`MultiScaleMaskedTransformerDecoder` with the frame in its position encoding (arXiv 2112.10764).

    Queries attend to the pixels of all frames at once. There is no other parameter than for images, so that weights of
    image models fit; one frame adds the same to the position of every pixel, which the softmax over them cancels.
    """

    sees_clips = True

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> dict[str, Any]:
        return super().from_config(cfg, in_channels) | {"encode_time": True}
