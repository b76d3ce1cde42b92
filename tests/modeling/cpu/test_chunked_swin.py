"""Swin blocks of some windows at a time against the plain ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mask2former.modeling.backbone import D2SwinTransformer
from mask2former.modeling.cpu import chunking, optimise_for_cpu
from mask2former.modeling.cpu.swin import patch_places
from mask2former.modeling.layers.window_attention import WindowGrid


def swin(**options: float) -> D2SwinTransformer:
    """A small one, with parameters that all matter."""
    model = D2SwinTransformer(embed_dim=24, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), **options)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize("size", [(200, 264), (97, 61)], ids=str)
@pytest.mark.parametrize("length", [1, 40, 10**6])
@torch.no_grad()
def test_chunks_and_whole_maps_are_the_same(
    size: tuple[int, int], length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(chunking.CHUNK_SIZE, "cpu", length)
    model = swin().eval()
    images = torch.randn(2, 3, *size)
    whole = model(images)
    optimise_for_cpu(model)
    for name, feature in model(images).items():
        torch.testing.assert_close(feature, whole[name], atol=1e-4, rtol=1e-4)


def test_gradients_are_those_of_the_plain_block() -> None:
    model, images = swin().eval(), torch.randn(1, 3, 64, 64)
    results = []
    for change in (lambda _: None, optimise_for_cpu):
        change(model)
        model.zero_grad()
        sum(feature.square().mean() for feature in model(images).values()).backward()
        results.append([p.grad.clone() for p in model.parameters()])
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)


@torch.no_grad()
def test_training_still_drops() -> None:
    model = swin(drop_path_rate=0.9).train()  # a dropout within the branches would hide that these are not skipped
    optimise_for_cpu(model)
    images = torch.randn(1, 3, 64, 64)
    one, two = (model(images)["res5"] for _ in range(2))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("shifted", [False, True])
def test_places_move_what_cutting_moves(shifted: bool) -> None:
    grid = WindowGrid((9, 11), 4, torch.device("cpu"))
    x = torch.randn(1, 9, 11, 3)
    patches, places = patch_places(grid, shifted=shifted)
    windows = x.flatten(0, 2)[patches.clamp(min=0)].masked_fill(patches[..., None] < 0, 0)
    assert torch.equal(windows, grid.cut(x, shifted=shifted)[0])
    assert torch.equal(windows.flatten(0, 1)[places].view_as(x), x)
