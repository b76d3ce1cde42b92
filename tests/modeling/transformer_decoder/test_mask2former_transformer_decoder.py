"""Mask2Former's decoder against section 3.2 of its paper, image by image, with whole masks and PyTorch's attention."""

from __future__ import annotations

import pytest
import torch
from oracles import cross_attend, feed_forward, linear, mlp, normalise, position, project, randomise, self_attend
from torch import Tensor
from torch.nn import functional as F

from mask2former.modeling.transformer_decoder import MultiScaleMaskedTransformerDecoder

SIZES = [(1, 2), (2, 2), (3, 4)]
MASK_SIZE = (6, 8)


def decoder(**changes: object) -> MultiScaleMaskedTransformerDecoder:
    options = {"num_classes": 3, "hidden_dim": 8, "num_queries": 6, "num_heads": 2, "dim_feedforward": 16}
    options |= {"num_layers": 4, "pre_norm": False, "mask_dim": 4, "enforce_input_project": False}
    return randomise(MultiScaleMaskedTransformerDecoder(8, **options | changes), std=0.5)


def inputs(images: int) -> tuple[list[Tensor], Tensor]:
    levels = [torch.randn(images, 8, *size, dtype=torch.float64) for size in SIZES]
    return levels, torch.randn(images, 4, *MASK_SIZE, dtype=torch.float64)


def slow_decode(
    model: MultiScaleMaskedTransformerDecoder, levels: list[Tensor], mask_features: Tensor, time: bool
) -> tuple[list[tuple[Tensor, Tensor]], int]:
    """Decode one image or clip: levels [T, C, H, W]; (class logits, masks [Q, T, H, W]) of all layers, empty masks."""
    frames, empty = len(mask_features), 0

    def predict(x: Tensor) -> tuple[Tensor, Tensor]:
        x = normalise(model.norm, x)
        return linear(model.class_embed, x), torch.einsum("qc,tchw->qthw", mlp(model.mask_embed, x), mask_features)

    x, place = model.query_feat.weight, model.query_embed.weight
    predictions = [predict(x)]
    for index, layer in enumerate(model.layers):
        level = index % 3
        pixels = levels[level].permute(0, 2, 3, 1).flatten(0, 2)  # frame after frame, row after row
        value = project(model.input_proj[level], pixels) + model.level_embed.weight[level]
        key = value + position(8, *SIZES[level], frames, time=time).flatten(1).T
        small = F.interpolate(predictions[-1][1], SIZES[level], mode="bilinear", align_corners=False)
        blocked = small.flatten(1).sigmoid() < 0.5
        for row in blocked:
            if row.all():
                row[:] = False
                empty += 1
        x = cross_attend(layer.cross_attention, x, place, key, value, blocked)
        x = feed_forward(layer.feed_forward, self_attend(layer.self_attention, x, place))
        predictions.append(predict(x))
    return predictions, empty


@pytest.mark.parametrize(
    ("frames", "options"),
    [
        (1, {}),
        (1, {"pre_norm": True}),
        (1, {"enforce_input_project": True}),
        (2, {}),
        (2, {"encode_time": True}),
    ],
)
@torch.no_grad()
def test_equals_the_paper(frames: int, options: dict[str, bool]) -> None:
    model = decoder(**options)
    levels, mask_features = inputs(2 * frames)
    found = model(levels, mask_features, frames)
    layers = [*found.aux, found]
    assert len(layers) == 5
    empty = 0
    for image in range(2):
        own = slice(image * frames, (image + 1) * frames)
        expected, none = slow_decode(
            model, [level[own] for level in levels], mask_features[own], "encode_time" in options
        )
        empty += none
        for layer, (classes, masks) in zip(layers, expected, strict=True):
            torch.testing.assert_close(layer.class_logits[image], classes, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(layer.masks.logits(image), masks, atol=1e-4, rtol=1e-4)
    assert empty  # some queries had an empty mask, and looked everywhere


def test_no_gradient_flows_through_the_attention_masks() -> None:
    """Mask features are used by masks alone: without a loss of masks they have no gradient."""
    levels, mask_features = inputs(1)
    model = decoder()
    model(levels, mask_features.requires_grad_()).class_logits.sum().backward()
    assert mask_features.grad is None and all(p.grad is None for p in model.mask_embed.parameters())


def test_too_few_levels_are_refused() -> None:
    levels, mask_features = inputs(1)
    with pytest.raises(ValueError, match="attends to 3 levels, found 2"):
        decoder()(levels[:2], mask_features)
