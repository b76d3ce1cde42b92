"""Go through the stages of one use in this process, and print the resident memory after each and its peak within.

A script of its own, because every import counts: ``python tools/benchmarks/peak_stages.py '{"use": "image", ...}'``.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
PROC = Path("/proc/self")
Stages = dict[str, dict[str, int]]


def main(words: dict[str, Any]) -> Stages:
    """Run ``words["use"]``, "image" or "step"; return bytes ``after`` each stage and at its ``peak``."""
    stages: Stages = {}
    with stage(stages, "torch"):
        import torch
    torch.set_num_threads(words["threads"])
    with stage(stages, "mask2former"):
        from mask2former import Predictor  # noqa: F401
    uses = {"image": image, "step": step}
    uses[words["use"]](stages, words)
    return stages


def image(stages: Stages, words: dict[str, Any]) -> None:
    """Load a model and run it on one image; the second image shows what the first has left behind."""
    import numpy as np

    from mask2former import Predictor

    height, width = words["size"]
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    with stage(stages, "load"):
        predictor = Predictor(words["config"], words["weights"], opts=["MODEL.DEVICE", "cpu"])
    predictor.model.train(False)
    for name in ("first", "second"):
        with stage(stages, name):
            predictor(pixels).compute()


def step(stages: Stages, words: dict[str, Any]) -> None:
    """Build a model with its optimiser and train two steps; the second has the optimiser's state."""
    from benchmarks.steps import Setting
    from benchmarks.training import build

    with stage(stages, "build"):
        setting = Setting(words["config"], tuple(words["options"]), words["size"], words["objects"], "float32", "cpu")
        training = build("ours", setting)
    for name in ("first", "second"):
        with stage(stages, name):
            training()


@contextlib.contextmanager
def stage(stages: Stages, name: str) -> Iterator[None]:
    """Note the resident memory after the block, and at its peak within, under ``name``."""
    (PROC / "clear_refs").write_text("5")  # proc(5): resets the peak to what is resident now
    yield
    stages[name] = {"after": status("VmRSS"), "peak": status("VmHWM")}


def status(key: str) -> int:
    """Read an entry of the process's status, in bytes."""
    lines = dict(line.split(":", 1) for line in (PROC / "status").read_text().splitlines() if ":" in line)
    return int(lines[key].split()[0]) * 1024


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
