"""`benchmark.py memory`: resident memory of a process from its start to a result, or to a training step."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.cases import parse_size
from benchmarks.command import hand_out, save_chart, sub_command
from benchmarks.peak_stages import Stages
from mask2former.measure.machine import describe

ABOUT = """Resident memory, each case in a fresh process: imports, loading a model, an image, a training step.

Weights are random, and read from a file that was saved for it. Linux only.
"""
COLUMNS = """
How to read the table, in MiB of resident memory
  torch, mask2former  after these imports
  ready               after loading the model, or building it with its optimiser
  loading             the peak of that, beyond what was there before
  1st, 2nd            the peak of the first and the second image or step, beyond what was ready
  peak                the most of all
  weights             the parameters alone; a training step holds as much of gradients and twice that of AdamW's state

Examples
  %(prog)s --json memory.json
  %(prog)s --images configs/coco/panoptic/r50.yaml:800x1067 --steps
"""
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("peak_stages.py")
IMAGES = ["quickstart/panoptic:128x128", "quickstart/panoptic:512x512", "coco/panoptic/r50:800x1067"]
STEPS = ["quickstart/panoptic:8x128x128", "coco/panoptic/r50:2x512x512"]


@dataclass(frozen=True)
class Row:
    """A case with its stages, in bytes.

    Attributes:
        weights: bytes of the parameters.
        stages: by name, in order: resident memory after each, and at its peak.
    """

    use: str
    config: str
    size: str
    weights: int
    stages: Stages

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def run(arguments: argparse.Namespace) -> None:
    if not Path("/proc/self/clear_refs").exists():
        sys.exit("benchmark: peaks of resident memory are Linux's to tell.")
    facts = describe(torch.device("cpu"))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for use, cases in (("image", arguments.images), ("step", arguments.steps)):
            for case in cases:
                print(f"measuring {use} {case} ...", file=sys.stderr, flush=True)
                rows.append(measure(use, case, arguments.threads, Path(folder)))
    shown = table(rows)
    print(f"\n{shown}")
    report = {"machine": facts, "rows": [row.to_json() for row in rows], "table": shown}
    hand_out(arguments, report, rows, draw)


def measure(use: str, case: str, threads: int, folder: Path) -> Row:
    """Measure a case, ``CONFIG:SIZE``, in a fresh process.

    Raises:
        ValueError: the case names no configuration or size.
        subprocess.CalledProcessError: the process failed; its messages are on the standard error stream.
    """
    config, _, size = case.rpartition(":")
    if not config:
        raise ValueError(f"{case!r}: name a configuration and a size, such as quickstart/panoptic:128x128")
    file = Path(config) if Path(config).exists() else ROOT / "configs" / f"{config}.yaml"
    count, height, width = parse_size(size)
    words: dict[str, Any] = {"use": use, "config": str(file), "threads": threads, "objects": 6, "options": []}
    weights, saved = save_weights(file, folder)
    words |= {"weights": str(saved), "size": (height, width)} if use == "image" else {"size": size}
    if use == "image" and count != 1:
        raise ValueError(f"{case!r}: the memory of an image is measured for one at a time")
    command = [sys.executable, "-W", "ignore", str(SCRIPT), json.dumps(words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Row(use, config, size, weights, json.loads(done.stdout.strip().splitlines()[-1]))


def save_weights(config: Path, folder: Path) -> tuple[int, Path]:
    """Save random weights of a configuration's model; return the bytes of its parameters, and the file."""
    from detectron2.modeling import build_model

    from mask2former.config import load_config

    file = folder / f"{config.parent.name}_{config.stem}.pth"
    model = build_model(load_config(str(config), ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"]))
    torch.save({"model": model.state_dict()}, file)
    return sum(x.numel() * x.element_size() for x in model.parameters()), file


def table(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        stages = row.stages
        ready = stages["load" if row.use == "image" else "build"]
        lines.append(
            {
                "": f"{row.config}, {'an image' if row.use == 'image' else 'a step'} of {row.size}",
                "torch": mib(stages["torch"]["after"]),
                "mask2former": mib(stages["mask2former"]["after"]),
                "weights": mib(row.weights),
                "loading": mib(ready["peak"] - stages["mask2former"]["after"]),
                "ready": mib(ready["after"]),
                "1st": mib(stages["first"]["peak"] - ready["after"]),
                "2nd": mib(stages["second"]["peak"] - ready["after"]),
                "peak": mib(max(stage["peak"] for stage in stages.values())),
            }
        )
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True)


def mib(size: int) -> str:
    """Write bytes in MiB."""
    return f"{size / 2**20:.0f}"


def draw(rows: Sequence[Row], file: Path) -> None:
    """Draw the resident memory after each stage, and its peak, one line for each case."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for row in rows:
        peaks = [stage["peak"] / 2**20 for stage in row.stages.values()]
        axes.plot(range(len(peaks)), peaks, marker="o", label=f"{row.config}, {row.use} of {row.size}")
    axes.set_xticks(range(5), ["torch", "mask2former", "ready", "first", "second"])
    axes.set_ylabel("peak of resident memory, MiB")
    axes.legend(fontsize=8)
    save_chart(figure, file)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add = sub_command(commands, "memory", run, what="memory from import to step", about=ABOUT, columns=COLUMNS)
    case = "CONFIG:[Bx]HxW"
    add("--images", nargs="*", default=IMAGES, metavar=case, help="images to predict (default: %(default)s)")
    add("--steps", nargs="*", default=STEPS, metavar=case, help="training steps (default: %(default)s)")
    add("--threads", type=int, default=1, help="CPU threads (default: 1)")
    add("--json", type=Path, help="write all numbers to this file")
    add("--chart", type=Path, help="draw the stages into this image")
