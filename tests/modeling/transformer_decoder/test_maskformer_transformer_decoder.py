"""MaskFormer's decoder against DETR's layers, image by image, with PyTorch's attention."""

from __future__ import annotations

import pytest
import torch
from oracles import cross_attend, feed_forward, linear, mlp, normalise, position, project, randomise, self_attend
from torch import Tensor

from mask2former.modeling.transformer_decoder import StandardTransformerDecoder


def decoder(**changes: object) -> StandardTransformerDecoder:
    options = {"num_classes": 3, "hidden_dim": 8, "num_queries": 5, "num_heads": 2, "dim_feedforward": 16}
    options |= {"dropout": 0.0, "pre_norm": False, "num_encoder_layers": 1, "num_layers": 2, "mask_dim": 4}
    return randomise(StandardTransformerDecoder(6, enforce_input_project=False, **options | changes), std=0.5)


def slow_decode(
    model: StandardTransformerDecoder, feature: Tensor, mask_features: Tensor
) -> list[tuple[Tensor | None, Tensor]]:
    """Decode one image or clip: feature [T, C, H, W]; (class logits, masks [Q, T, H, W]) of all layers."""
    place = position(8, *feature.shape[2:], len(feature)).flatten(1).T
    memory = project(model.input_proj, feature.permute(0, 2, 3, 1).flatten(0, 2))
    for layer in model.encoder_layers:
        memory = feed_forward(layer.feed_forward, self_attend(layer.self_attention, memory, place))
    memory = normalise(model.encoder_norm, memory)
    query_place = model.query_embed.weight
    x, predictions = torch.zeros_like(query_place), []
    for layer in model.decoder_layers:
        x = self_attend(layer.self_attention, x, query_place)
        x = cross_attend(layer.cross_attention, x, query_place, memory + place, memory)
        x = feed_forward(layer.feed_forward, x)
        normed = normalise(model.output_norm, x)
        classes = None if model.class_embed is None else linear(model.class_embed, normed)
        predictions.append((classes, torch.einsum("qc,tchw->qthw", mlp(model.mask_embed, normed), mask_features)))
    return predictions


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("options", [{}, {"pre_norm": True}, {"num_classes": None}, {"num_encoder_layers": 0}])
@torch.no_grad()
def test_equals_the_paper(frames: int, options: dict[str, object]) -> None:
    model = decoder(**options)
    feature = torch.randn(2 * frames, 6, 3, 4, dtype=torch.float64)
    mask_features = torch.randn(2 * frames, 4, 6, 8, dtype=torch.float64)
    found = model(feature, mask_features, frames)
    layers = [*found.aux, found]
    for image in range(2):
        own = slice(image * frames, (image + 1) * frames)
        for layer, (classes, masks) in zip(layers, slow_decode(model, feature[own], mask_features[own]), strict=True):
            if classes is None:
                assert layer.class_logits.shape == (2, 5, 0)
            else:
                torch.testing.assert_close(layer.class_logits[image], classes, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(layer.masks.logits(image), masks, atol=1e-4, rtol=1e-4)


def test_a_feature_that_fits_is_not_projected() -> None:
    options = {"num_classes": 3, "hidden_dim": 8, "num_queries": 5, "num_heads": 2, "dim_feedforward": 16}
    options |= {"dropout": 0.0, "pre_norm": False, "num_encoder_layers": 0, "num_layers": 1, "mask_dim": 4}
    for enforced in (False, True):
        model = StandardTransformerDecoder(8, enforce_input_project=enforced, **options)
        assert bool(list(model.input_proj.parameters())) == enforced
