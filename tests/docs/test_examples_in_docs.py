"""Examples of the pages run: Python blocks, and commands that take little time, with a small model and drawn data."""

from __future__ import annotations

import ast
import json
import runpy
import shutil
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from doc_pages import ROOT, Snippet, commands, python_blocks
from test_commands_in_docs import own_words

from mask2former import Predictor
from mask2former.config import load_config

SIZE = (48, 64)  # height and width, of every image
PUBLISHED = '"coco/panoptic/swin_tiny"'  # would be downloaded
TINY = '"output/mine"'
# Blocks that need what is not installed, or large: their imports are looked up, no more.
TOO_LARGE = {"docs/max_deeplab.md": "read_tensorflow", "docs/export.md": "onnxruntime"}
RUN = [  # each has to be on a page as it is
    "python demo/demo.py --model output/quickstart/panoptic --input image.png --mask mask.png",
    ".venv/bin/python tools/check_dataset.py --coco annotations.json images/",
    ".venv/bin/python tools/dashboard.py output/a output/b",
    ".venv/bin/python -m mask2former.zoo",
    ".venv/bin/python -m mask2former.ops",
]


@pytest.fixture(scope="module")
def place(small_training: Path, datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that a reader has, by the names that the pages give them."""
    place = tmp_path_factory.mktemp("reader")
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    mask = np.zeros(SIZE, np.uint8)
    mask[5:30, 10:50] = 255
    for name in ("img.jpg", "image.jpg", "image.png"):
        assert cv2.imwrite(str(place / name), image)
    assert cv2.imwrite(str(place / "mask.png"), mask)
    writer = cv2.VideoWriter(str(place / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, SIZE[::-1])
    for number in range(2):
        writer.write(np.roll(image, number, axis=1))
    writer.release()
    for name in ("mine", "cats", "quickstart/panoptic"):
        shutil.copytree(small_training, place / "output" / name)
    for name in ("a", "b"):
        (place / "output" / name).mkdir()
        rows = [{"iteration": i, "total_loss": 3 / (i + 1), "lr": 1e-4} for i in range(3)]
        (place / "output" / name / "metrics.json").write_text("\n".join(map(json.dumps, rows)))
    shutil.copytree(datasets / "quickstart" / "images" / "val", place / "images")
    shutil.copy(datasets / "quickstart" / "annotations" / "instances_val.json", place / "annotations.json")
    (place / "configs").symlink_to(ROOT / "configs")
    return place


@pytest.fixture(autouse=True)
def reader(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def guided(place: Path) -> Predictor:
    """Return a predictor whose model has a mask encoder."""
    folder = place / "output" / "guided"
    shutil.copytree(place / "output" / "mine", folder)
    cfg = load_config(str(folder / "config.yaml"), ["MODEL.MASK_ENCODER.ENABLED", "True"])
    torch.save({"model": build_model(cfg).state_dict()}, folder / "model_final.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    return Predictor(folder, threshold=0.01)


@pytest.fixture(scope="module")
def of_clips(small_options: list[str]) -> torch.nn.Module:
    """Return a model of clips."""
    name = "VideoMultiScaleMaskedTransformerDecoder"
    options = ["MODEL.META_ARCHITECTURE", "VideoMaskFormer", "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", name]
    return build_model(load_config("quickstart/panoptic", [*small_options, *options])).eval()


@pytest.fixture
def known(request: pytest.FixtureRequest, block: Snippet) -> dict[str, Any]:
    """Return what the names in a block stand for, which its page explains in words."""
    image = cv2.imread("image.jpg")
    frame = torch.as_tensor(image).permute(2, 0, 1)
    if block.page == "docs/video.md":
        return {"model": request.getfixturevalue("of_clips"), "frame": frame}
    if block.page == "docs/guided.md":
        marked = np.zeros(SIZE, bool)
        marked[5:30, 10:50] = True
        predictor = request.getfixturevalue("guided")
        return {"predictor": predictor, "image": image, "box_or_click_or_scribble": marked}
    if block.page == "docs/speed.md":
        return {"model": Predictor("output/mine").model, "image": frame}
    if block.page == "docs/predictor.md":
        return {"predictor": Predictor("output/mine", threshold=0.01), "frames": [image, image, image]}
    if block.page == "docs/training.md":
        hooks: list[object] = []
        model = torch.nn.Linear(2, 2)
        return {"trainer": SimpleNamespace(model=model, register_hooks=hooks.extend, test=None), "cfg": None}
    if block.page == "docs/operator.md":
        each = (1, 6, 8, 2, 3)  # images, queries, heads, levels, points
        return {
            "value": torch.rand(1, 20, 8, 4),
            "spatial_shapes": [(4, 4), (2, 2)],
            "reference_points": torch.rand(1, 6, 2, 2),
            "sampling_offsets": torch.rand(*each, 2),
            "attention_logits": torch.rand(each),
            "sampling_locations": torch.rand(*each, 2),
            "attention_weights": torch.rand(each).flatten(3).softmax(-1).view(each),
        }
    return {}


def imports_of(block: str) -> str:
    """Return a program of the block's imports alone."""
    tree = ast.parse(block)
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return ast.unparse(tree)


@pytest.mark.parametrize("block", python_blocks(), ids=lambda block: f"{block.page}:{block.line}")
def test_python_blocks_run(block: Snippet, known: dict[str, Any]) -> None:
    text = block.text.replace(PUBLISHED, TINY).replace('"my_val"', '"quickstart_val_panoptic"')
    if block.page in TOO_LARGE:
        assert TOO_LARGE[block.page] in text
        text = imports_of(text)
        if "onnxruntime" in text:
            pytest.importorskip("onnxruntime")
        assert "mask2former" in text
    exec(compile(text, str(block), "exec"), known)


@pytest.mark.parametrize("command", RUN)
def test_commands_run(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = next((one for one in commands() if one.text.split("  ")[0].strip() == command), None)
    assert listed is not None, "it is on no page any more"
    words = own_words(listed.words)
    assert words is not None
    monkeypatch.setattr(sys, "argv", words[1:] if words[0] == "-m" else words)
    with warnings.catch_warnings(), pytest.raises(SystemExit) as stopped:
        warnings.simplefilter("ignore", RuntimeWarning)  # that the module is imported already
        if words[0] == "-m":
            runpy.run_module(words[1], run_name="__main__")
        else:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        raise SystemExit(0)  # a module that ends by itself
    assert stopped.value.code in (0, None)
