"""Coarse masks, and the marking of objects in training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from mask2former.config import load_config
from mask2former.data import register_all
from mask2former.data.guide import KINDS, Marking, coarse_mask
from mask2former.data.mapper import Mapper

CONFIG = Path(__file__).parents[3] / "configs" / "quickstart" / "panoptic.yaml"


def ellipse() -> np.ndarray:
    y, x = np.ogrid[:90, :120]
    return ((y - 40) / 15) ** 2 + ((x - 60) / 25) ** 2 <= 1


def draws(kind: str, mask: np.ndarray, count: int = 40) -> list[np.ndarray]:
    return [coarse_mask(mask, kind, np.random.default_rng(seed)) for seed in range(count)]


def test_box() -> None:
    expected = np.zeros((90, 120), bool)
    expected[25:56, 35:86] = True
    assert all(np.array_equal(coarse, expected) for coarse in draws("box", ellipse()))


@pytest.mark.parametrize("kind", ["dilated", "eroded"])
def test_grown_and_shrunk(kind: str) -> None:
    """Between the distances that the ranges allow, by SciPy's distance transform, and half a pixel for rounding."""
    mask = ellipse()
    size = np.sqrt(mask.sum())
    least, most = {"dilated": (0.1, 0.4), "eroded": (0.05, 0.25)}[kind]
    areas = set()
    for coarse in draws(kind, mask):
        inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
        if kind == "dilated":
            assert coarse[mask].all() and outside[coarse].max() <= most * size + 0.51
            assert coarse[outside <= least * size - 0.51].all()
        else:
            assert mask[coarse].all() and coarse[inside > most * size + 0.51].all()
            assert inside[coarse].min() >= least * size - 0.51
        areas.add(int(coarse.sum()))
    assert len(areas) > 5


def test_shifted() -> None:
    mask, size = ellipse(), np.sqrt(ellipse().sum())
    centre = np.array(ndimage.center_of_mass(mask))
    moves = []
    for coarse in draws("shifted", mask):
        assert coarse.sum() == mask.sum()  # it stays inside of the image
        moves.append(np.array(ndimage.center_of_mass(coarse)) - centre)
    lengths = np.linalg.norm(moves, axis=1)
    assert lengths.min() > 0.1 * size - 1 and lengths.max() < 0.3 * size + 1
    assert {(bool(y > 0), bool(x > 0)) for y, x in moves} == {(a, b) for a in (True, False) for b in (True, False)}


def test_click() -> None:
    mask = ellipse()
    radius = 0.15 * np.sqrt(mask.sum())
    for coarse in draws("click", mask):
        y, x = (round(value) for value in ndimage.center_of_mass(coarse))
        assert mask[y, x] and coarse.sum() == pytest.approx(np.pi * radius**2, rel=0.15)


@pytest.mark.parametrize("kind", KINDS)
def test_small_objects_and_edges(kind: str) -> None:
    for place in np.s_[0:1, 0:1], np.s_[88:90, 118:120], np.s_[:, :]:
        mask = np.zeros((90, 120), bool)
        mask[place] = True
        assert all(coarse.any() and coarse.shape == mask.shape for coarse in draws(kind, mask, 5))
    with pytest.raises(ValueError, match="no pixel"):
        coarse_mask(np.zeros((4, 4), bool), kind, np.random.default_rng(0))


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="scribble"):
        coarse_mask(ellipse(), "scribble", np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"KINDS.*scribble"):
        Marking(kinds=["box", "scribble"], none=0.5, most_objects=1)
    with pytest.raises(ValueError, match="NONE"):
        Marking(kinds=["box"], none=1.5, most_objects=1)


def test_marking() -> None:
    """Mark five squares and an object too small: check shares of images without a mask, counts, and what is marked."""
    masks = np.zeros((6, 60, 60), bool)
    for index in range(5):
        masks[index, 10 * index + 1 : 10 * index + 9, 20:28] = True
    masks[5, 0, 0] = True
    marking = Marking(kinds=["box"], none=0.25, most_objects=3)
    counts = []
    for seed in range(400):
        np.random.seed(seed)
        found = marking(masks)
        counts.append(0 if found is None else len(found[0]))
        if found is not None:
            chosen, coarse = found
            assert coarse.dtype == np.uint8 and np.array_equal(coarse != 0, masks[chosen].any(0))
            assert (np.diff(chosen) > 0).all() and 5 not in chosen
    shares = np.bincount(counts, minlength=4) / 400
    # 3/4 have a mask: half of them, and a third of the others, mark one object.
    assert shares == pytest.approx([1 / 4, 3 / 4 * (1 / 2 + 1 / 6), 1 / 8, 1 / 8], abs=0.06)
    assert marking(masks[:0]) is None


def test_the_mapper_marks(datasets: Path, small_network: list[str]) -> None:
    from detectron2.data import DatasetCatalog

    register_all(str(datasets))
    options = [*small_network, "MODEL.MASK_ENCODER.ENABLED", "True", "MODEL.MASK_ENCODER.KINDS", "['box']"]
    cfg = load_config(str(CONFIG), [*options, "MODEL.MASK_ENCODER.NONE", "0.3", "INPUT.RANDOM_FLIP", "none"])
    guided, plain = (
        Mapper(cfg, True),
        Mapper(load_config(str(CONFIG), [*small_network, "INPUT.RANDOM_FLIP", "none"]), True),
    )
    seen = []
    for seed, record in enumerate([*DatasetCatalog.get("quickstart_train_panoptic")] * 5):
        np.random.seed(seed)
        one, all_objects = guided(record), plain(record)["instances"]
        masks = one["instances"].gt_masks.tensor
        seen.append("mask" in one)
        if "mask" not in one:
            assert len(masks) == len(all_objects)
            continue
        assert one["mask"].shape == one["image"].shape[1:] and 0 < len(masks) <= 3
        assert (one["mask"] != 0)[masks.any(0)].all()  # boxes cover what they mark
        for mask, label in zip(masks, one["instances"].gt_classes, strict=True):
            same = [torch.equal(mask, other) for other in all_objects.gt_masks.tensor]
            assert all_objects.gt_classes[same.index(True)] == label
    assert {True, False} == set(seen)
    assert "mask" not in Mapper(cfg, False)(record)
