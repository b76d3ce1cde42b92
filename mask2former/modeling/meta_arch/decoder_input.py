"""The decoders of a head, and the features that its transformer decoder attends to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from mask2former.modeling.pixel_decoder import HOW_TO_GIVE, PixelDecoderOutput
from mask2former.modeling.transformer_decoder import find_transformer_decoder

MULTI_SCALE, ENCODED, MASK_FEATURES = "multi_scale_pixel_decoder", "transformer_encoder", "pixel_embedding"


def pixel_decoder_from_config(
    cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]
) -> tuple[nn.Module, dict[str, ShapeSpec]]:
    """Build the pixel decoder; return it with the shapes of the backbone features that it reads.

    Raises:
        ValueError: the backbone lacks a feature of ``IN_FEATURES``, or none is named.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    if missing := [name for name in head.IN_FEATURES if name not in input_shape]:
        raise ValueError(
            f"MODEL.SEM_SEG_HEAD.IN_FEATURES names {missing}, but the backbone gives {sorted(input_shape)}; "
            f"{HOW_TO_GIVE}"
        )
    if not head.IN_FEATURES:
        raise ValueError(
            f"MODEL.SEM_SEG_HEAD.IN_FEATURES is empty; name some of {sorted(input_shape)}, which the backbone gives."
        )
    shapes = {name: input_shape[name] for name in head.IN_FEATURES}
    return SEM_SEG_HEADS_REGISTRY.get(head.PIXEL_DECODER_NAME)(cfg, shapes), shapes


def transformer_decoder_from_config(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec], **changes: Any) -> nn.Module:
    """Build the transformer decoder for ``TRANSFORMER_IN_FEATURE``; ``changes`` override arguments from ``cfg``.

    Raises:
        ValueError: no such feature, or the decoder attends to another kind of features.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    in_feature = cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE
    decoder_name = cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME
    decoder = find_transformer_decoder(decoder_name)
    # A decoder from another project need not have the attribute.
    if getattr(decoder, "multi_scale", in_feature == MULTI_SCALE) != (in_feature == MULTI_SCALE):
        wants = repr(MULTI_SCALE) if decoder.multi_scale else "one feature"
        raise ValueError(
            f"MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME is {decoder_name}, which attends to {wants}, "
            f"but MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE is {in_feature!r}."
        )
    channels = {MULTI_SCALE: head.CONVS_DIM, ENCODED: head.CONVS_DIM, MASK_FEATURES: head.MASK_DIM}
    channels |= {name: shape.channels for name, shape in input_shape.items()}
    if in_feature not in channels:
        raise ValueError(
            f"MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE is {in_feature!r}; choose one of {', '.join(sorted(channels))}."
        )
    return decoder(cfg, channels[in_feature], **changes)


def select_decoder_input(
    in_feature: str, features: Mapping[str, Tensor], decoded: PixelDecoderOutput
) -> Tensor | list[Tensor]:
    """Pick ``in_feature`` from the backbone's features and the pixel decoder's output.

    Raises:
        ValueError: the pixel decoder has no encoder, whose output is wanted.
    """
    if in_feature == MULTI_SCALE:
        return decoded.multi_scale_features
    if in_feature == MASK_FEATURES:
        return decoded.mask_features
    if in_feature != ENCODED:
        return features[in_feature]
    if decoded.encoded is None:
        raise ValueError(
            f"MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE is {ENCODED!r}, but the pixel decoder has no encoder."
        )
    return decoded.encoded
