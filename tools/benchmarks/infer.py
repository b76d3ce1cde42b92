"""`benchmark.py infer`: its options, and the order of what it does."""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import parse_size
from benchmarks.command import hand_out, sub_command
from benchmarks.infer_table import draw, draw_growth, table
from benchmarks.inference import measure
from benchmarks.machine import limits_in_words
from benchmarks.models import IMPLEMENTATIONS, MODELS, TASKS, Setting
from benchmarks.precision import agreement
from mask2former.measure.machine import describe
from mask2former.measure.timing import Patience

ABOUT = """Whole models on random images: ours and Hugging Face's Mask2Former with the same random weights, in one
run and taking turns, from uint8 images to results.

The weights of the class head are scaled and biased so that --objects queries hold an object: post-processing has
something to do, the same for everybody. Its results differ: Hugging Face's resizes masks to 384x384 on the way.
"""
COLUMNS = """
How to read the table
  seconds     time of a batch: median and half the distance between the quartiles; the processor's with --processor
  images/s  batch by median
  x HF        the time of Hugging Face's divided by this one
  x floor     this time divided by the floor: the convolutions and matrix products of our network alone, on dense
              tensors of the same shapes, convolutions in the faster of both memory layouts; without post-processing.
              The last row has all of them in PyTorch's default layout, in which convolutions are slower
  peak MiB    memory beyond the weights, images and results included. CUDA: by PyTorch's allocator. CPU: growth of
              the resident memory of a process of its own; Linux only.
  other columns  seconds of the parts, in one more run

Examples
  %(prog)s --threads 2                                      R50 and Swin-T at 800x1067
  %(prog)s --models r50 --batch 1 2 4 --mixed               images of different sizes
  %(prog)s --models r50 --dtypes float32 bfloat16           with the change in results
  %(prog)s --models r50 --task instance --size 2000x3000 --objects 100
  %(prog)s --models configs/quickstart/panoptic.yaml --grow --chart grow.png
  %(prog)s --other 'mine=python mine.py {height} {width}'   prints {{"seconds": 1.5}}, one batch for each call
"""
GROWTH = {
    "size": [{"size": (side, side)} for side in (256, 512, 768, 1024, 1536)],
    "queries": [{"queries": queries, "objects": queries // 2} for queries in (25, 50, 100, 200, 400)],
    "batch": [{"batch": batch} for batch in (1, 2, 4, 8)],
}


def run(arguments: argparse.Namespace) -> None:
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("benchmark: --device cuda: PyTorch sees no GPU here.")
    if arguments.processor and device.type != "cpu":
        sys.exit("benchmark: --processor times the CPU: leave it out on a GPU.")
    facts = describe(device)
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    rows, notes = [], {}
    for setting in settings(arguments):
        print(f"measuring {setting} ...", file=sys.stderr, flush=True)
        found, said = measure(
            setting,
            ["ours"] if arguments.grow else arguments.implementations,
            dict(arguments.other),
            device,
            arguments.threads,
            Patience(arguments.repeats, arguments.seconds),
            arguments.memory,
            floor=not arguments.grow and arguments.floor,
            processor=arguments.processor,
        )
        rows += found
        if setting.dtype != "float32":
            said |= agreement(setting, device)
        notes[_words(setting)] = said
    shown = table(rows)
    told = limits_in_words(device, arguments.dtypes, [arguments.threads])
    told += [f"{words}: {key}: {_number(value)}" for words, said in notes.items() for key, value in said.items()]
    print(f"\n{shown}\n\n" + "\n".join(told))
    report = {"machine": facts, "notes": notes, "rows": [row.to_json() for row in rows], "table": shown, "words": told}
    hand_out(arguments, report, rows, draw_growth if arguments.grow else draw)


def settings(arguments: argparse.Namespace) -> list[Setting]:
    common: dict[str, Any] = {
        "task": arguments.task,
        "objects": arguments.objects,
        "mixed": arguments.mixed,
        "compile": arguments.compile,
        "weights": arguments.weights,
    }
    every = itertools.product(arguments.models, arguments.size, arguments.batch, arguments.dtypes)
    base = [Setting(model, size, batch, dtype, **common) for model, size, batch, dtype in every]
    if not arguments.grow:
        return base
    varied = [{**vars(one), **changes} for one in base for steps in GROWTH.values() for changes in steps]
    return list(dict.fromkeys(Setting(**values) for values in varied))


def _number(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) else value


def _words(setting: Setting) -> str:
    return f"{Path(setting.model).stem} {setting.size[0]}x{setting.size[1]} batch {setting.batch} {setting.dtype}"


def _size(text: str) -> tuple[int, int]:
    try:
        return parse_size(text)[1:]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _other(text: str) -> tuple[str, str]:
    name, equals, command = text.partition("=")
    if not (name and equals and command):
        raise argparse.ArgumentTypeError(f"--other takes NAME=COMMAND; found {text!r}.")
    return name, command


def _task(text: str) -> str:
    if unknown := set(text.split("+")) - set(TASKS):
        raise argparse.ArgumentTypeError(f"tasks are {', '.join(TASKS)}, joined by +; found {', '.join(unknown)}.")
    return text


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add = sub_command(commands, "infer", run, what="whole models, from images to results", about=ABOUT, columns=COLUMNS)
    known = ", ".join(MODELS)
    add("--models", nargs="+", default=["r50", "swin"], help=f"{known}, or a configuration file (only ours)")
    add("--implementations", nargs="+", choices=IMPLEMENTATIONS, default=list(IMPLEMENTATIONS))
    add(
        "--other",
        action="append",
        type=_other,
        default=[],
        metavar="NAME=COMMAND",
        help="another contestant; see below",
    )
    add("--device", default="cpu", help="cpu (default) or cuda")
    add(
        "--size",
        nargs="+",
        type=_size,
        default=[(800, 1067)],
        metavar="HxW",
        help="image size in pixels (default: 800x1067)",
    )
    add("--batch", nargs="+", type=int, default=[1], help="images at a time (default: 1)")
    add("--mixed", action="store_true", help="use images of different sizes in a batch")
    add(
        "--dtypes",
        nargs="+",
        choices=["float32", "bfloat16"],
        default=["float32"],
        help="float32 (default), bfloat16 by autocast",
    )
    add("--task", type=_task, default="panoptic", help="panoptic (default), instance, semantic, or several joined by +")
    add("--objects", type=int, default=20, help="queries that hold an object (default: %(default)s)")
    add("--threads", type=int, default=1, help="number of CPU threads (default: %(default)s)")
    add("--compile", choices=["fixed", "dynamic"], default="", help="torch.compile ours, for fixed or dynamic sizes")
    add("--weights", default="", help="a file of trained weights for a configuration file")
    add("--grow", action="store_true", help="time only ours against image size, queries and batch, and draw charts")
    add("--repeats", type=int, default=3, help="number of rounds, after one that is not counted (default: %(default)s)")
    add("--seconds", type=float, default=5.0, help=argparse.SUPPRESS)
    add("--processor", action="store_true", help="time the processor, which programs beside it change less; CPU only")
    add("--no-memory", dest="memory", action="store_false", help="leave out peak memory")
    add("--no-floor", dest="floor", action="store_false", help="leave out the floor")
    add("--json", type=Path, help="write all numbers to this file")
    add("--chart", type=Path, help="draw into this image")
