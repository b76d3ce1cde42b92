"""Step 7: train the quickstart to its end, then CamVid and nuclei, if present, for the remaining time."""

from __future__ import annotations

import functools
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gpu_steps.pytest_outcomes import ROOT
from gpu_steps.record import LONGEST, Context, Record

OTHERS = {  # a data set's folder -> its configuration, and the pixels of a batch relative to the quickstart's
    "camvid": ("configs/camvid/semantic/r18.yaml", 5.0),
    "nuclei": ("configs/nuclei/panoptic/r18.yaml", 2.0),
}
BESIDE = 25.0  # seconds that a training takes outside of its iterations: starting, scoring
FEWEST = 50  # iterations that are worth a score
SMALL = [
    *("MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "3", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", "1", "MODEL.MASK_FORMER.DEC_LAYERS", "2"),
    *("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "10"),
]


def run(context: Context, record: Record) -> None:
    folder = Path(context.work, "datasets")
    few = ["--train", "6", "--val", "2", "--size", "64", "64", "--workers", "1"] if context.is_tiny else []
    draw = [sys.executable, "datasets/draw_quickstart.py", "--root", str(folder), *few]
    record.attempt(context, "drawing", lambda: {"seconds": finished(draw, context, {})})
    options = SMALL if context.is_tiny else []
    quickstart = functools.partial(trained, context, "configs/quickstart/panoptic.yaml", folder, options)
    record.attempt(context, "quickstart", quickstart)
    of_an_iteration = record.content["results"][-1].get("seconds of an iteration")
    root = Path(os.environ.get("DETECTRON2_DATASETS", ROOT / "datasets"))
    for index, (name, (config, pixels)) in enumerate(OTHERS.items()):
        if not (root / name).is_dir():
            record.note(**{name: "not there: DETECTRON2_DATASETS names no folder that holds it"})
        elif context.is_tiny or not of_an_iteration:
            record.note(**{name: "there, not trained: a rehearsal" if context.is_tiny else "there, not trained"})
        else:
            seconds = context.left() / (len(OTHERS) - index) - BESIDE
            iterations = int(seconds / (pixels * of_an_iteration))
            if iterations < FEWEST:
                record.skip(f"{name}: time for {max(0, iterations)} iterations")
                continue
            words = ["SOLVER.MAX_ITER", str(iterations)]
            record.attempt(context, name, functools.partial(trained, context, config, root, words))


def trained(context: Context, config: str, root: Path, options: list[str]) -> dict[str, Any]:
    """Train as a user does; return iterations, seconds of one, and the scores.

    Raises:
        RuntimeError: it fails, or does not end in time.
    """
    output = Path(context.work, "output", Path(config).parent.name, Path(config).stem, str(time.time_ns()))
    checks = ["--skip-checks"] if context.is_tiny else []  # the checks would demand more images
    command = [sys.executable, "train_net.py", "--quiet", *checks, "--config-file", config, *options]
    try:
        seconds = finished([*command, "OUTPUT_DIR", str(output)], context, {"DETECTRON2_DATASETS": str(root)})
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no time for its end; so far: {metrics(output)}") from error
    return {"config": config, "options": options, "seconds": seconds, **metrics(output)}


def metrics(output: Path) -> dict[str, Any]:
    """Return what a training has written to metrics.json so far."""
    file = output / "metrics.json"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    known: dict[str, Any] = {}
    for line in lines:
        known.update(line)
    scores = {key: value for key, value in known.items() if isinstance(value, float) and math.isfinite(value)}
    times = {key: sorted(line[key] for line in lines if key in line) for key in ("time", "data_time")}
    middle = {key: found[len(found) // 2] if found else None for key, found in times.items()}
    steps = [line["iteration"] for line in lines if "total_loss" in line]
    return {
        "iterations": max(steps, default=-1) + 1,
        "seconds of an iteration": middle["time"],
        "of these waiting for data": middle["data_time"],
        "loss": known.get("total_loss"),
        "scores": {key: value for key, value in scores.items() if key.count("/") == 1 and "-" not in key},
    }


def finished(command: list[str], context: Context, variables: dict[str, str]) -> float:
    """Run a command of this project and return its seconds; raise with its output if it fails."""
    started = time.perf_counter()
    environment = {**os.environ, **variables}
    limit = max(1.0, context.left())
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-LONGEST:]}"
        )
    return time.perf_counter() - started
