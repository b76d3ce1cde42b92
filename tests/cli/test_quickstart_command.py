"""``mask2former quickstart`` outside of a checkout: data set, training, scores, report and drawn images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mask2former_cli.main import main

ROOT = Path(__file__).parents[2]
SMALL = [
    "SOLVER.MAX_ITER",
    "1",
    "SOLVER.IMS_PER_BATCH",
    "1",
    "DATALOADER.NUM_WORKERS",
    "0",
    "MODEL.RESNETS.DEPTH",
    "18",
]
SMALL += ["MODEL.RESNETS.RES2_OUT_CHANNELS", "64", "MODEL.DEVICE", "cpu", "OUTPUT_DIR", "made"]


def test_from_nothing_to_images(tmp_path: Path) -> None:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "DETECTRON2_DATASETS": "drawn", "PYTHONPATH": path}
    words = ["quickstart", "--train", "2", "--val", "3", "--workers", "1", "--number", "2", *SMALL]
    done = subprocess.run(
        [sys.executable, "-m", "mask2former_cli.main", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "drawn/quickstart/images/train").iterdir())) == 2
    assert "PQ" in json.loads((tmp_path / "made/scores.json").read_text())["panoptic_seg"]
    assert len(list((tmp_path / "made/images").glob("0*"))) == 2
    for name in ("made/report.html", "made/curves.html", "made/model_final.pth", "made/log.txt", "made/images"):
        assert (tmp_path / name).exists() and name in done.stdout
    (next_step,) = [line for line in done.stdout.splitlines() if line.startswith("  mask2former predict")]
    assert (tmp_path / next_step.split()[-1]).is_file() and (tmp_path / next_step.split()[3]).is_dir()


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--dataset", "nosuch"], r"'nosuch': no data set"), (["--number", "0"], "draw at least one image")],
)
def test_drawing_nothing_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(SystemExit, match=said):
        main(["draw", "--config-file", "quickstart/panoptic", *words, "MODEL.DEVICE", "cpu"])


def test_a_wrong_key_is_told_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"SOLVER\.MAX_ITERS"):
        main(["quickstart", "SOLVER.MAX_ITERS", "1", "OUTPUT_DIR", str(tmp_path / "made")])
    assert not list(tmp_path.iterdir())
