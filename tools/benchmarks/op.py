"""`benchmark.py op`: its options, and the order of what it does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.cases import LOCATIONS, Case, parse_size
from benchmarks.command import hand_out, sub_command
from benchmarks.contestants import CONTESTANTS, load
from benchmarks.machine import measure_limits
from benchmarks.operator import measure_layer, measure_operator
from benchmarks.table import draw, scaling, sentences, tables
from mask2former.measure.machine import describe
from mask2former.measure.timing import Patience

ABOUT = """The deformable attention operator, side by side with others, in one run and taking turns.

Contestants that are not installed are named and left out:
{contestants}

All of them get the same raw inputs, those of a pixel decoder's encoder (8 heads, 32 channels, 4 points, every pixel of
every level asks): values, offsets in pixels, logits. The softmax and the locations count for everybody, whether they
are computed inside the operator or by PyTorch before it.
"""
COLUMNS = """
How to read the tables
  training   forward and backward, to the gradients of values, offsets and logits
  ms         median and half the distance between the quartiles
  x plain    the time of plain PyTorch divided by this one
  of limit   the time that the machine would take at best divided by this one. At best: inputs and results cross the
             memory once at the speed of a large copy, or all multiply-adds run at the speed of a matrix product in the
             same dtype, whichever takes longer. Caches can beat the first; nothing so irregular comes near the second.
  peak MiB   memory beyond the inputs, results included. CUDA: by PyTorch's allocator. CPU: growth of the resident
             memory of a process of its own with one thread; Linux only.
  error      largest difference from plain PyTorch in float32 by its largest result: whether they compute the same

Examples
  %(prog)s                                          the two sizes, float32 and bfloat16, on the CPU with one thread
  %(prog)s --threads 1 2 --dtypes float32           how it scales
  %(prog)s --device cuda --json op.json --chart op.png
  %(prog)s --sizes 64x64 --repeats 3 --no-layer     a quick look
"""


def run(arguments: argparse.Namespace) -> None:
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("benchmark: --device cuda: PyTorch sees no GPU here.")
    patience = Patience(arguments.repeats, arguments.seconds)
    present, absent = load(arguments.contestants)
    facts = describe(device)
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    limits = measure_limits(device, arguments.dtypes, arguments.threads, arguments.copy_mib * 2**20)
    for threads, limit in limits.items():
        products = ", ".join(f"{rate / 1e9:.0f} G multiply-adds/s {name}" for name, rate in limit.multiply_adds.items())
        print(f"limits with {threads} CPU thread(s): {limit.bandwidth / 1e9:.1f} GB/s copied, {products}")
    for name, reason in absent.items():
        print(f"absent: {name}: {reason}")

    rows, failed = [], {}
    for size in arguments.sizes:
        for dtype in arguments.dtypes:
            for locations in arguments.locations:
                case = Case(size, dtype, locations)
                print(f"measuring {size}, {dtype}, {locations} ...", file=sys.stderr, flush=True)
                found, unable = measure_operator(case, list(present), device, limits, patience, arguments.memory)
                rows += found
                failed |= {f"{name} ({size} {dtype} {locations})": reason for name, reason in unable.items()}
            if arguments.layer:
                rows += measure_layer(Case(size, dtype, "near"), device, arguments.threads, patience, arguments.memory)
    print(f"\n{tables(rows)}")
    if len(arguments.threads) > 1:
        print(f"\ntimes as fast as with {min(arguments.threads)} thread(s)\n{scaling(rows)}")
    if failed:
        print(f"\nwithout a result:\n{sentences(failed.items())}")
    report = {
        "machine": facts,
        "limits": {
            threads: {"bytes_per_second": limit.bandwidth, "multiply_adds_per_second": limit.multiply_adds}
            for threads, limit in limits.items()
        },
        "absent": absent,
        "failed": failed,
        "rows": [row.to_json() for row in rows],
    }
    hand_out(arguments, report, rows, draw)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    contestants = "\n".join(f"  {name:12} {one.about}" for name, one in CONTESTANTS.items())
    add = sub_command(
        commands,
        "op",
        run,
        what="the deformable attention operator",
        about=ABOUT.format(contestants=contestants),
        columns=COLUMNS,
    )
    add("--device", default="cpu", help="cpu (default), cuda, cuda:1 ...")
    add(
        "--sizes",
        nargs="+",
        type=_size,
        default=["800x1067", "2x1024x1024"],
        metavar="[Bx]HxW",
        help="images in pixels; the levels have strides 32, 16, 8 (default: %(default)s)",
    )
    add("--dtypes", nargs="+", choices=["float32", "bfloat16", "float16"], default=["float32", "bfloat16"])
    add(
        "--locations",
        nargs="+",
        choices=LOCATIONS,
        default=list(LOCATIONS),
        help="near: 1 to 4 pixels away in the head's direction plus noise of one pixel; anywhere: at random",
    )
    add("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    add("--threads", nargs="+", type=int, default=[1], help="numbers of CPU threads, compared in the same run")
    add("--repeats", type=int, help="rounds of each measurement, instead of --seconds")
    add("--seconds", type=float, default=5.0, help="time for each contestant and measurement (default: %(default)s)")
    add("--no-memory", dest="memory", action="store_false", help="leave out peak memory")
    add("--no-layer", dest="layer", action="store_false", help="leave out the encoder layer")
    add("--copy-mib", type=int, default=512, help="size of the copy that measures the bandwidth (default: %(default)s)")
    add("--json", type=Path, help="write all numbers to this file")
    add("--chart", type=Path, help="draw the times into this image")


def _size(text: str) -> str:
    try:
        parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text
