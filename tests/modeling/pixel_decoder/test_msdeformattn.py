"""Mask2Former's pixel decoder against its paper, with deformable attention sample by sample."""

from __future__ import annotations

import oracles
import pytest
import torch
from detectron2.layers import ShapeSpec
from oracles import convolve, randomise
from torch import Tensor
from torch.nn import functional as F

from mask2former.modeling.pixel_decoder import MSDeformAttnPixelDecoder

SHAPES = {"res3": ShapeSpec(channels=6, stride=8), "res5": ShapeSpec(channels=7, stride=32)}
SHAPES |= {"res2": ShapeSpec(channels=5, stride=4), "res4": ShapeSpec(channels=4, stride=16)}
SIZES = {"res2": (7, 9), "res3": (4, 5), "res4": (2, 3), "res5": (1, 2)}
OPTIONS = {"conv_dim": 32, "mask_dim": 3, "norm": "GN", "num_heads": 2, "num_points": 2, "dim_feedforward": 16}
OPTIONS |= {"num_layers": 2, "dropout": 0.0, "common_stride": 4}


def decoder(names: list[str], **changes: object) -> MSDeformAttnPixelDecoder:
    return MSDeformAttnPixelDecoder(SHAPES, transformer_in_features=names, **OPTIONS | changes)


def features() -> dict[str, Tensor]:
    return {n: torch.randn(2, SHAPES[n].channels, *size, dtype=torch.float64) for n, size in SIZES.items()}


def slow_encode(model: MSDeformAttnPixelDecoder, image: dict[str, Tensor], names: list[str]) -> list[Tensor]:
    """Encode one image, features [C, H, W] coarse to fine: [conv_dim, H, W] each."""
    pixels, places, references = [], [], []
    for index, name in enumerate(names):
        height, width = SIZES[name]
        conv, norm = model.input_proj[index]
        projected = oracles.linear(conv, image[name].flatten(1).T)
        pixels.append(F.group_norm(projected.T[None], 32, norm.weight, norm.bias)[0].T)
        places.append(oracles.position(32, height, width).flatten(1).T + model.level_embed[index])
        references += [((x + 0.5) / width, (y + 0.5) / height) for y in range(height) for x in range(width)]
    x, place, reference = torch.cat(pixels), torch.cat(places), torch.tensor(references, dtype=torch.float64)
    for layer in model.layers:
        block, sizes = layer.self_attention, [SIZES[name] for name in names]
        x = oracles.normalise(block.norm, x + oracles.deformable(block.attention, x + place, x, reference, sizes))
        x = oracles.feed_forward(layer.feed_forward, x)
    split = x.split([SIZES[name][0] * SIZES[name][1] for name in names])
    return [part.T.unflatten(1, SIZES[name]) for part, name in zip(split, names, strict=True)]


@pytest.mark.parametrize("names", [["res5", "res4", "res3"], ["res5", "res4"]], ids=len)
@torch.no_grad()
def test_equals_the_paper(names: list[str]) -> None:
    """The encoder runs over its levels, coarse to fine; finer ones are joined top-down, resized bilinearly."""
    model = randomise(decoder(sorted(names)))
    given = features()
    found = model(given)
    by_image = [slow_encode(model, {n: x[i] for n, x in given.items()}, names) for i in range(2)]
    levels = [torch.stack(level) for level in zip(*by_image, strict=True)]
    finest = levels[-1]
    for index, name in enumerate([n for n in ("res3", "res2") if n not in names]):
        up = F.interpolate(finest, size=SIZES[name], mode="bilinear", align_corners=False)
        finest = convolve(model.output_convs[index], convolve(model.lateral_convs[index], given[name]) + up)
    for one, expected in zip(found.multi_scale_features, levels, strict=True):
        torch.testing.assert_close(one, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(found.encoded, found.multi_scale_features[0])
    torch.testing.assert_close(found.mask_features, convolve(model.mask_features, finest), atol=1e-4, rtol=1e-4)


def test_the_pyramid_ends_at_the_common_stride() -> None:
    model = decoder(["res4", "res5"], common_stride=8)
    assert model.fpn_features == ["res3"] and len(model.lateral_convs) == 1


def test_a_feature_that_the_backbone_does_not_give() -> None:
    with pytest.raises(ValueError, match=r"asked for \['res6'\]"):
        decoder(["res5", "res6"])
