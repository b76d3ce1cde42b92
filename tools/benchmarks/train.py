"""`benchmark.py train`: its options, and what it prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tabulate import tabulate

from benchmarks.command import hand_out, save_chart, sub_command
from benchmarks.machine import limits_in_words
from benchmarks.training import CONTESTANTS, PARTS, Row, Setting, measure
from mask2former.measure.machine import describe
from mask2former.measure.timing import Patience

ABOUT = """A training step (forward, losses, backward, AdamW), side by side with others, in one run and taking turns.

  ours             the network of a configuration file, with random weights
  straightforward  the same with full masks of all queries and layers in attention, matching and losses, the plain
                   PyTorch operator, and feed-forward networks over all positions at once
  huggingface      transformers' Mask2FormerForUniversalSegmentation at the same sizes, with labels
  compiled         ours, with torch.compile of backbone, pixel decoder and decoder (only if asked for; slow to start)

Images are noise, objects ellipses.
"""
COLUMNS = """
How to read the tables
  s            median and half the distance between the quartiles; the processor's with --processor
  x straight.  the time of the straightforward step divided by this one
  peak MiB     memory beyond weights and optimiser state, gradients included. CUDA: by PyTorch's allocator. CPU: growth
               of the resident memory of a process of its own with one thread; Linux only.
  parts        seconds, of a step that is timed part by part

Examples
  %(prog)s --threads 2 --json train.json --chart train.png
  %(prog)s --objects 5 20 100 --contestants ours straightforward --repeats 3     how cost grows with the objects
  %(prog)s --device cuda --size 2x1024x1024 --dtype bfloat16 --contestants ours compiled huggingface
"""
ROOT = Path(__file__).resolve().parents[2]


def run(arguments: argparse.Namespace) -> None:
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("benchmark: --device cuda: PyTorch sees no GPU here.")
    if arguments.processor and arguments.device != "cpu":
        sys.exit("benchmark: --processor times the CPU: leave it out on a GPU.")
    import mask2former  # noqa: F401  (mends Detectron2 before it is imported)

    facts = describe(torch.device(arguments.device))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    names = list(arguments.contestants)
    patience = Patience(arguments.repeats, arguments.seconds)
    rows: list[Row] = []
    for objects in arguments.objects:
        print(f"measuring {arguments.size} with {objects} objects ...", file=sys.stderr, flush=True)
        where = (str(arguments.config_file), tuple(arguments.opts), arguments.size)
        setting = Setting(*where, objects, arguments.dtype, arguments.device)
        rows += measure(setting, names, arguments.threads, patience, arguments.memory, arguments.processor)
    told = limits_in_words(torch.device(arguments.device), [arguments.dtype], arguments.threads)
    print(f"\n{table(rows)}\n\nparts, s\n{parts_table(rows)}\n\n" + "\n".join(told))
    shown = f"{table(rows)}\n\nParts of a step, s by the clock:\n\n{parts_table(rows)}"
    report = {"machine": facts, "rows": [row.to_json() for row in rows], "table": shown, "words": told}
    hand_out(arguments, report, rows, draw)


def table(rows: Sequence[Row]) -> str:
    lines = [
        {
            "": CONTESTANTS[row.contestant],
            "objects": row.setting.objects,
            "threads": row.threads,
            "s": f"{row.median:.3g} ± {(row.upper_quartile - row.lower_quartile) / 2:.2g}",
            "x straight.": "" if row.ratio is None else f"{row.ratio:.2f}",
            "peak MiB": "" if row.peak is None else f"{row.peak / 2**20:.0f}",
            "first step, s": f"{row.first:.3g}",
        }
        for row in rows
    ]
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True)


def parts_table(rows: Sequence[Row]) -> str:
    fewest = min(row.threads for row in rows)  # parts are timed once, whatever the threads
    lines = [
        {"": CONTESTANTS[row.contestant], "objects": row.setting.objects, **{p: f"{row.parts[p]:.3f}" for p in PARTS}}
        for row in rows
        if row.threads == fewest
    ]
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True)


def draw(rows: Sequence[Row], file: Path) -> None:
    """Draw the parts of the time as stacked bars, and beside them the peak memory."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    fewest = min(row.threads for row in rows)
    rows = [row for row in rows if row.threads == fewest]
    labels = [f"{CONTESTANTS[row.contestant]}, {row.setting.objects} objects" for row in rows]
    figure, (times, peaks) = pyplot.subplots(
        1, 2, figsize=(12, 1.5 + 0.4 * len(rows)), sharey=True, layout="constrained"
    )
    left = [0.0] * len(rows)
    for part in PARTS:
        widths = [max(0.0, row.parts[part]) for row in rows]
        times.barh(labels, widths, left=left, label=part)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    times.set_title("a training step by part, s", fontsize=10)
    times.invert_yaxis()
    peaks.barh(labels, [(row.peak or 0) / 2**20 for row in rows], color="grey")
    peaks.set_title("peak memory, MiB", fontsize=10)
    figure.legend(*times.get_legend_handles_labels(), loc="outside lower center", ncols=len(PARTS), fontsize=8)
    save_chart(figure, file)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add = sub_command(commands, "train", run, what="a training step", about=ABOUT, columns=COLUMNS)
    default = ROOT / "configs/coco/panoptic/r50.yaml"
    add(
        "--config-file",
        type=Path,
        default=default,
        help="configuration of a MaskFormer (default: COCO panoptic, ResNet-50)",
    )
    add("--opts", nargs="*", default=[], metavar="KEY VALUE", help="configuration keys to change")
    add("--device", default="cpu", help="cpu (default), cuda, cuda:1 ...")
    add("--size", default="2x512x512", metavar="[Bx]HxW", help="images in pixels (default: %(default)s)")
    add("--objects", nargs="+", type=int, default=[15], help="objects in each image (default: 15)")
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="float32 (default), bfloat16 by autocast")
    add("--contestants", nargs="+", choices=CONTESTANTS, default=["ours", "straightforward", "huggingface"])
    add("--threads", nargs="+", type=int, default=[1], help="numbers of CPU threads, compared in the same run")
    add("--repeats", type=int, help="rounds of each measurement, instead of --seconds")
    add("--seconds", type=float, default=30.0, help="time for each contestant (default: %(default)s)")
    add("--processor", action="store_true", help="time the processor, which programs beside it change less; CPU only")
    add("--no-memory", dest="memory", action="store_false", help="leave out peak memory")
    add("--json", type=Path, help="write all numbers to this file")
    add("--chart", type=Path, help="draw times and memory into this image")
