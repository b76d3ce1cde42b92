"""Feature pyramids against their definition: upsampled by the nearest pixel, summed, convolved."""

from __future__ import annotations

import oracles
import pytest
import torch
from detectron2.layers import ShapeSpec
from oracles import convolve, randomise
from torch import Tensor

from mask2former.modeling.pixel_decoder import BasePixelDecoder, TransformerEncoderPixelDecoder

SHAPES = {"res3": ShapeSpec(channels=6, stride=8), "res5": ShapeSpec(channels=7, stride=32)}
SHAPES |= {"res2": ShapeSpec(channels=5, stride=4), "res4": ShapeSpec(channels=4, stride=16)}
SIZES = {"res2": (12, 17), "res3": (6, 9), "res4": (3, 5), "res5": (2, 3)}


def features() -> dict[str, Tensor]:
    return {n: torch.randn(2, SHAPES[n].channels, *size, dtype=torch.float64) for n, size in SIZES.items()}


def slow_pyramid(model: BasePixelDecoder, given: dict[str, Tensor], coarsest: Tensor) -> tuple[Tensor, list[Tensor]]:
    levels = [convolve(model.output_convs[0], coarsest)]
    for index, name in enumerate(("res4", "res3", "res2")):
        skip = convolve(model.lateral_convs[index], given[name])
        (height, width), (h, w) = skip.shape[2:], levels[-1].shape[2:]
        rows, columns = [y * h // height for y in range(height)], [x * w // width for x in range(width)]
        levels.append(convolve(model.output_convs[index + 1], skip + levels[-1][:, :, rows][..., columns]))
    return convolve(model.mask_features, levels[-1]), levels


@pytest.mark.parametrize("norm", ["", "GN"])
@torch.no_grad()
def test_pyramid(norm: str) -> None:
    model = randomise(BasePixelDecoder(SHAPES, conv_dim=32, mask_dim=3, norm=norm))
    given = features()
    found = model(given)
    mask_features, levels = slow_pyramid(model, given, given["res5"])
    assert found.encoded is None
    torch.testing.assert_close(found.mask_features, mask_features)
    for one, expected in zip(found.multi_scale_features, levels, strict=True):
        torch.testing.assert_close(one, expected)


@pytest.mark.parametrize("pre_norm", [False, True])
@torch.no_grad()
def test_pyramid_upon_an_encoder(pre_norm: bool) -> None:
    sizes = {"num_heads": 2, "dim_feedforward": 16, "num_layers": 2, "dropout": 0.0}
    model = TransformerEncoderPixelDecoder(SHAPES, conv_dim=32, mask_dim=3, norm="GN", pre_norm=pre_norm, **sizes)
    randomise(model)
    given = features()
    found = model(given)
    place = oracles.position(32, 2, 3).flatten(1).T
    encoded = []
    for image in given["res5"]:
        x = oracles.linear(model.input_proj, image.flatten(1).T)
        for layer in model.layers:
            x = oracles.feed_forward(layer.feed_forward, oracles.self_attend(layer.self_attention, x, place))
        encoded.append(oracles.normalise(model.encoder_norm, x).T.unflatten(1, (2, 3)))
    mask_features, levels = slow_pyramid(model, given, torch.stack(encoded))
    torch.testing.assert_close(found.encoded, torch.stack(encoded), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.mask_features, mask_features, atol=1e-4, rtol=1e-4)
    for one, expected in zip(found.multi_scale_features, levels, strict=True):
        torch.testing.assert_close(one, expected, atol=1e-4, rtol=1e-4)
