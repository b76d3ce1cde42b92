"""Masks that come with an image: regions of interest, and objects that a mask encoder is asked for."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from mask2former import Predictor
from mask2former.config import load_config
from mask2former.data import register_all

EVERYTHING = 0.01  # a threshold that random weights pass
HEIGHT, WIDTH = 48, 64  # of the image
ROOT = Path(__file__).parents[2]


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:30, 10:50] = True
    return mask


@pytest.fixture(scope="module")
def guided(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """Return the same model with a mask encoder of random weights."""
    place = tmp_path_factory.mktemp("guided") / "training"
    shutil.copytree(folder, place)
    cfg = load_config(str(place / "config.yaml"), ["MODEL.MASK_ENCODER.ENABLED", "True"])
    model = build_model(cfg)
    model.load_state_dict(torch.load(folder / "model_final.pth")["model"], strict=False)
    for parameter in model.mask_encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.save({"model": model.state_dict()}, place / "model_final.pth")
    (place / "config.yaml").write_text(cfg.dump())
    return Predictor(place, threshold=EVERYTHING)


def test_a_region_of_interest(predictor: Predictor, image: np.ndarray, mask: np.ndarray) -> None:
    result = predictor(image, mask=mask)
    assert np.array_equal(result.semantic >= 0, mask) and (result.semantic[~mask] == -1).all()
    assert not result.panoptic[~mask].any() and result.panoptic[mask].any()
    assert len(result.instances) and not result.instances.masks[:, ~mask].any()
    assert np.array_equal(result.label_map("semantic")[~mask], np.full((~mask).sum(), 255))
    for task in result.tasks:
        assert not any(region.mask[~mask].any() for region in result.regions(task))
        assert len(result.to_coco(task)["annotations"])
    changed = image.copy()
    changed[~mask] = 7  # is not seen
    other = predictor(changed, mask=mask)
    assert np.array_equal(other.panoptic, result.panoptic) and np.array_equal(other.semantic, result.semantic)
    assert result.at_threshold(0.9).panoptic.sum() <= result.panoptic.sum()


def test_a_mask_in_any_form(predictor: Predictor, image: np.ndarray, mask: np.ndarray, tmp_path: Path) -> None:
    expected = predictor(image, mask=mask).semantic
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    for form in (mask.astype(np.int64) * 3, str(tmp_path / "mask.png"), tmp_path / "mask.png"):
        assert np.array_equal(predictor(image, mask=form).semantic, expected)


def test_wrong_masks_are_refused(
    predictor: Predictor, folder: Path, image: np.ndarray, mask: np.ndarray, tmp_path: Path
) -> None:
    Image.fromarray(np.ones((5, 6), np.uint8)).save(tmp_path / "small.png")
    for form, words in {
        str(tmp_path / "small.png"): r"small\.png.*\(5, 6\).*\(48, 64\)",
        str(tmp_path / "none.png"): r"none\.png: no such mask",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            predictor(image, mask=form)
    with pytest.raises(ValueError, match="float"):
        predictor(image, mask=mask.astype(float))
    with pytest.raises(ValueError, match="no pixel"):
        predictor(image, mask=mask & False)
    with pytest.raises(ValueError, match="one image"):
        predictor([image, image], mask=mask)
    with pytest.raises(ValueError, match="tiles"):
        Predictor(folder, tile=32, overlap=8)(image, mask=mask)
    with pytest.raises(ValueError, match=r"without MODEL\.MASK_ENCODER"):
        predictor.refine(image, mask)


def test_a_mask_encoder(predictor: Predictor, guided: Predictor, image: np.ndarray, mask: np.ndarray) -> None:
    plain = predictor(image).panoptic
    assert np.array_equal(guided(image).panoptic, plain)
    asked = guided(image, mask=mask)
    assert asked.panoptic.shape == plain.shape and not np.array_equal(asked.panoptic, plain)
    refined = guided.refine(image, mask)
    assert refined.dtype == bool and refined.shape == mask.shape


def test_refined_masks_are_those_of_likely_queries(
    guided: Predictor, image: np.ndarray, mask: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three queries: two that are objects by more than half, which are joined; then none, where the best counts."""

    def masks(queries: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.where(torch.arange(8) == query, 1.0, -1.0)[None] for query in queries])

    for empty, expected in (([0.1, 0.9, 0.4], [0, 2]), ([0.7, 0.6, 0.9], [1])):
        log_odds = torch.tensor([[np.log(1 - p), np.log(p)] for p in empty])
        monkeypatch.setattr(guided.model, "predict", lambda batch, found=log_odds: [(found, masks)])
        assert guided.refine(image, mask).nonzero()[1].tolist() == expected


def test_the_demo(folder: Path, image: np.ndarray, mask: np.ndarray, tmp_path: Path, capsys) -> None:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "demo" / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "mask.png")
    given = ["--model", str(folder), "--input", str(tmp_path / "a.png"), "--mask", str(tmp_path / "mask.png")]
    output = ["--output", str(tmp_path / "b.png"), "--task", "semantic", "--mode", "labels"]
    demo.main([*given, *output])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")) != 255, mask)
    with pytest.raises(SystemExit, match="one image"):
        demo.main([*given[:4], str(tmp_path / "b.png"), *given[4:], *output])
    with pytest.raises(SystemExit):
        demo.main([*given[:4], "--mask", str(tmp_path / "a.png"), *output])
    assert "a.png" in capsys.readouterr().err


def test_measuring(datasets: Path, guided: Predictor, folder: Path, tmp_path: Path, capsys) -> None:
    """The program's table, on a model of random weights: only the coarse masks are any good."""
    register_all(str(datasets))
    spec = importlib.util.spec_from_file_location("evaluate_guided", ROOT / "tools" / "evaluate_guided.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    config = str(folder / "config.yaml")
    options = ["MODEL.MASK_ENCODER.ENABLED", "True", "MODEL.WEIGHTS", str(tmp_path / "model.pth")]
    torch.save({"model": build_model(load_config(config, options)).state_dict()}, tmp_path / "model.pth")
    command = [
        "--config-file",
        config,
        "--objects",
        "5",
        "--kinds",
        "box",
        "click",
        "--output",
        str(tmp_path / "o.json"),
    ]
    tool.main([*command, *options])
    scores = json.loads((tmp_path / "o.json").read_text())
    assert set(scores["mean_iou"]) == {"box", "click", "truth"} and scores["objects"] == 5
    assert scores["mean_iou"]["truth"]["before"] == 100
    assert scores["mean_iou"]["click"]["before"] < scores["mean_iou"]["box"]["before"] <= 100
    assert all(0 <= pair["after"] <= 100 for pair in scores["mean_iou"].values())
    with pytest.raises(SystemExit, match="ask for fewer"):
        tool.main([*command, "--objects", "1000", *options])
