"""Choice of the transformer decoder and of its input, by configuration."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import nn

from mask2former.config import load_config
from mask2former.modeling.meta_arch.decoder_input import (
    pixel_decoder_from_config,
    select_decoder_input,
    transformer_decoder_from_config,
)
from mask2former.modeling.pixel_decoder import BasePixelDecoder, PixelDecoderOutput

SHAPES = {f"res{i}": ShapeSpec(channels=8 * i, stride=2**i) for i in range(2, 6)}
MASKED, STANDARD = "MultiScaleMaskedTransformerDecoder", "StandardTransformerDecoder"


def config(*options: str) -> CfgNode:
    sizes = ["MODEL.SEM_SEG_HEAD.CONVS_DIM", "32", "MODEL.SEM_SEG_HEAD.MASK_DIM", "16"]
    sizes += ["MODEL.MASK_FORMER.HIDDEN_DIM", "24", "MODEL.MASK_FORMER.DEC_LAYERS", "2", "MODEL.DEVICE", "cpu"]
    return load_config(None, [*sizes, *(f"MODEL.{option}" if "." in option else option for option in options)])


def choice(decoder: str, feature: str) -> list[str]:
    return ["MASK_FORMER.TRANSFORMER_DECODER_NAME", decoder, "MASK_FORMER.TRANSFORMER_IN_FEATURE", feature]


@pytest.mark.parametrize(
    ("feature", "channels"),
    [("transformer_encoder", 32), ("pixel_embedding", 16), ("res5", 40), ("res3", 24)],
)
def test_a_decoder_of_one_feature_is_built_for_its_channels(feature: str, channels: int) -> None:
    decoder = transformer_decoder_from_config(config(*choice(STANDARD, feature)), SHAPES)
    assert not decoder.multi_scale
    projection = decoder.input_proj
    assert (projection.in_channels if isinstance(projection, nn.Conv2d) else 24) == channels


def test_a_decoder_of_levels_is_built_for_the_pyramid() -> None:
    decoder = transformer_decoder_from_config(config(*choice(MASKED, "multi_scale_pixel_decoder")), SHAPES)
    assert {projection.in_channels for projection in decoder.input_proj} == {32}


def test_changes_go_before_the_configuration() -> None:
    decoder = transformer_decoder_from_config(config(*choice(STANDARD, "res5")), SHAPES, num_classes=None)
    assert decoder.class_embed is None


@pytest.mark.parametrize(
    ("decoder", "feature", "message"),
    [
        (MASKED, "res5", r"attends to 'multi_scale_pixel_decoder', but .*TRANSFORMER_IN_FEATURE is 'res5'"),
        (STANDARD, "multi_scale_pixel_decoder", "attends to one feature, but"),
        (STANDARD, "res9", "is 'res9'; choose one of .*pixel_embedding, res2"),
    ],
)
def test_what_does_not_fit_is_refused(decoder: str, feature: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transformer_decoder_from_config(config(*choice(decoder, feature)), SHAPES)


def test_the_pixel_decoder_gets_the_features_it_names() -> None:
    options = ["SEM_SEG_HEAD.PIXEL_DECODER_NAME", "BasePixelDecoder", "SEM_SEG_HEAD.IN_FEATURES", "['res5', 'res3']"]
    decoder, shapes = pixel_decoder_from_config(config(*options), SHAPES)
    assert type(decoder) is BasePixelDecoder and decoder.features == ["res5", "res3"]
    assert shapes == {"res5": SHAPES["res5"], "res3": SHAPES["res3"]}
    with pytest.raises(ValueError, match=r"IN_FEATURES names \['res5'\], but the backbone gives \['res3'\]"):
        pixel_decoder_from_config(config(*options), {"res3": SHAPES["res3"]})


def test_each_name_picks_its_tensor() -> None:
    features = {"res2": torch.zeros(1), "res5": torch.ones(1)}
    decoded = PixelDecoderOutput(torch.full((1,), 2.0), [torch.full((1,), 3.0)], torch.full((1,), 4.0))
    assert select_decoder_input("multi_scale_pixel_decoder", features, decoded) is decoded.multi_scale_features
    assert select_decoder_input("pixel_embedding", features, decoded) is decoded.mask_features
    assert select_decoder_input("transformer_encoder", features, decoded) is decoded.encoded
    assert select_decoder_input("res5", features, decoded) is features["res5"]
    with pytest.raises(ValueError, match="the pixel decoder has no encoder"):
        select_decoder_input("transformer_encoder", features, decoded._replace(encoded=None))
