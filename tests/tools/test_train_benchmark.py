"""The training benchmark: the straightforward step computes the same losses; parts add up; the command runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from benchmarks import straightforward, training  # noqa: E402
from benchmarks.train import draw, parts_table, table  # noqa: E402
from benchmarks.training import PARTS, Row, Setting, breakdown, build  # noqa: E402

from mask2former.modeling.layers.deformable_attention import MSDeformAttn  # noqa: E402
from mask2former.modeling.losses import pixel_losses  # noqa: E402

OPTIONS = (
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", "32", "MODEL.SEM_SEG_HEAD.MASK_DIM", "32", "MODEL.MASK_FORMER.HIDDEN_DIM", "32"),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", "1", "MODEL.MASK_FORMER.DEC_LAYERS", "3"),
    *("MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "64", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "8"),
)
CONFIG = str(ROOT / "configs/quickstart/semantic.yaml")  # the published decoder, which the others have too
SETTING = Setting(CONFIG, OPTIONS, "2x64x64", 3, "float32", "cpu")


def same_points(logits: Tensor, num_points: int, **_: object) -> Tensor:
    """Of every mask."""
    return torch.rand(num_points, 2, generator=torch.Generator().manual_seed(0)).expand(len(logits), -1, -1)


def off_the_kinks(model: torch.nn.Module) -> None:
    """Let sampling points of the deformable attention lie between pixel centres.

    At first they lie on them, where interpolation has a kink: rounding decides which of two slopes is the gradient.
    """
    for module in model.modules():
        if isinstance(module, MSDeformAttn):
            torch.nn.init.uniform_(module.sampling_offsets.bias, 0.2, 0.4)


def test_straightforward_step_has_the_same_losses_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    # Smooth: memory layouts differ in rounding, and one number on the other side of a ReLU's kink changes a gradient.
    monkeypatch.setattr(nn.functional, "relu_", nn.functional.softplus)  # what Detectron2's ResNet calls
    for module in (pixel_losses, straightforward):
        monkeypatch.setattr(module, "uncertain_points", same_points)
    results = []
    for name in ("ours", "straightforward"):
        step = build(name, SETTING)
        off_the_kinks(step.model)
        torch.manual_seed(1)  # the matching's points
        with step.context():
            loss = step.loss()
            loss.backward()
        gradients = {n: p.grad for n, p in step.model.named_parameters()}
        results.append((loss.detach(), gradients))
    (loss, gradients), (expected, wanted) = results
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    assert gradients.keys() == wanted.keys()
    # Together: a bias before a normalisation has a gradient of zero but for rounding.
    flat, flat_wanted = (torch.cat([g[name].flatten() for name in wanted]) for g in (gradients, wanted))
    assert (flat - flat_wanted).norm() < 1e-4 * flat_wanted.norm()


@pytest.mark.parametrize("name", ["ours", "straightforward", "huggingface"])
def test_steps_run_and_have_parts(name: str) -> None:
    if name == "huggingface":
        pytest.importorskip("transformers")
    step = build(name, SETTING)
    before = torch.cat([p.detach().flatten() for p in step.model.parameters()])
    parts = breakdown(step, torch.device("cpu"), rounds=1)
    assert set(parts) == set(PARTS) and all(parts[part] > 0 for part in PARTS if part != "other")
    assert not torch.equal(before, torch.cat([p.detach().flatten() for p in step.model.parameters()]))


def test_images_have_objects() -> None:
    images, masks, classes = training.batch(SETTING)
    assert images.shape == (2, 3, 64, 64)
    for m, c in zip(masks, classes, strict=True):
        assert m.shape == (3, 64, 64) and m.dtype == torch.bool and m.flatten(1).any(1).all() and len(c) == 3


def row(contestant: str, seconds: float) -> Row:
    parts = dict.fromkeys(PARTS, seconds / len(PARTS))
    return Row(SETTING, contestant, 1, seconds, seconds - 0.1, seconds + 0.1, 3, 8 / seconds, 9.0, 5 * 2**20, parts)


def test_tables_hold_the_numbers(tmp_path: Path) -> None:
    rows = [row("ours", 4.0), row("straightforward", 8.0)]
    for words in ("4 ± 0.1", "2.00", "1.00", "5", "straightforward"):
        assert words in table(rows)
    assert "0.500" in parts_table(rows) and "matching" in parts_table(rows)
    draw(rows, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 10_000


@pytest.mark.slow
def test_command(tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "tools/benchmark.py"), "train", "--config-file", CONFIG, "--size", "1x64x64"]
    words += [
        "--objects",
        "1",
        "2",
        "--contestants",
        "ours",
        "straightforward",
        "--repeats",
        "1",
        "--processor",
        "--json",
    ]
    words += ["--json", str(tmp_path / "train.json"), "--opts", *OPTIONS]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "train.json").read_text())["rows"]
    assert [(r["contestant"], r["setting"]["objects"]) for r in rows] == [
        (name, objects) for objects in (1, 2) for name in ("ours", "straightforward")
    ]
    assert "peak MiB" in done.stdout
    assert "Parts of a step" in json.loads((tmp_path / "train.json").read_text())["table"]
