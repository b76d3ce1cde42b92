"""The head hands each part what it asks for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from mask2former.modeling.meta_arch import MaskFormerHead
from mask2former.modeling.pixel_decoder import PixelDecoderOutput

SHAPES = {"res5": ShapeSpec(channels=4, stride=32), "res2": ShapeSpec(channels=4, stride=4)}


class Pixels(nn.Module):
    """Gives sums of what it got, and remembers its names."""

    def forward(self, features: Mapping[str, Tensor]) -> PixelDecoderOutput:
        self.names = list(features)
        total = sum(features.values())
        return PixelDecoderOutput(total, [total + 1, total + 2], total + 3)


class Queries(nn.Module):
    def forward(self, memory: object, mask_features: Tensor, num_frames: int) -> tuple[object, Tensor, int]:
        return memory, mask_features, num_frames


@pytest.mark.parametrize(
    ("feature", "memory"),
    [("multi_scale_pixel_decoder", [31, 32]), ("transformer_encoder", 33), ("pixel_embedding", 30), ("res3", 500)],
)
def test_parts_are_joined(feature: str, memory: object) -> None:
    """``res3`` is not among the pixel decoder's features, but the transformer decoder may attend to it."""
    pixels = Pixels()
    head = MaskFormerHead(SHAPES, pixel_decoder=pixels, transformer_decoder=Queries(), transformer_in_feature=feature)
    features = {"res5": torch.tensor(10), "res3": torch.tensor(500), "res2": torch.tensor(20)}
    found, mask_features, frames = head(features, 7)
    assert pixels.names == head.in_features == ["res2", "res5"]  # by stride
    assert found == memory and mask_features == 30 and frames == 7
    assert head(features)[2] == 1
    assert set(dict(head.named_children())) == {"pixel_decoder", "predictor"}  # as published weights name them
