"""`benchmark.py film`: its options and its table."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.cases import parse_size
from benchmarks.command import sub_command, write_numbers
from benchmarks.films import PLAIN, TRACKED, WINDOWS, Film, Row, measure, ways_of, write_film
from mask2former.measure.machine import describe

ABOUT = """A film through a predictor: frames a second and memory, of single frames, of tracked ones, and in windows if
the model sees clips. Each way has a process of its own.
"""
COLUMNS = """
How to read the table
  frames/s          by the clock, reading and results included
  s of processor    the same time as the processor counts it, which other programs disturb less
  x frame by frame  that time divided by that of single frames without tracking
  MiB early, late   resident memory of the process after the first frames (--early), and at the film's end

Examples
  %(prog)s --model output/mine                                       2,000 drawn frames
  %(prog)s --model output/mine --images folder/of/frames --size 96x128 --opts INPUT.MIN_SIZE_TEST 96
"""


def run(arguments: argparse.Namespace) -> None:
    facts = describe(torch.device("cpu"))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    film = Film(parse_size(arguments.size)[1:], arguments.frames, arguments.images)
    options = {"opts": arguments.opts, "threshold": arguments.threshold, "device": "cpu"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "film.mp4")
        write_film(film, file)
        early = min(arguments.early, arguments.frames)
        ways = arguments.ways or ways_of(arguments.model, options)
        rows = [measure(arguments.model, options, file, way, early, arguments.threads) for way in ways]
    print(f"\n{table(rows)}")
    if arguments.json:
        write_numbers({"machine": facts, "film": asdict(film), "rows": [asdict(row) for row in rows]}, arguments.json)


def table(rows: Sequence[Row]) -> str:
    from tabulate import tabulate

    base = next((row for row in rows if row.way == PLAIN), None)
    lines = [
        {
            "way": row.way,
            "frames": row.frames,
            "frames/s": f"{row.frames / row.seconds:.2f}",
            "s of processor": f"{row.processor:.1f}",
            "x frame by frame": "" if base is None else f"{row.processor / base.processor:.3f}",
            "MiB early": f"{row.early / 2**20:.0f}",
            "MiB late": f"{row.late / 2**20:.0f}",
            "objects a frame": f"{row.objects:.1f}",
            "tracks": row.tracks or "",
        }
        for row in rows
    ]
    return tabulate(lines, headers="keys", disable_numparse=True, colalign=("left", *["right"] * 8))


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add = sub_command(commands, "film", run, what="films, with and without tracking", about=ABOUT, columns=COLUMNS)
    add("--model", required=True, help="what Predictor takes: a training's folder, weights in one, a published name")
    add("--images", metavar="FOLDER", help="repeat the images of this folder, there and back (default: drawn squares)")
    add("--size", default="96x128", metavar="HxW", help="size of the frames in pixels (default: %(default)s)")
    add("--frames", type=int, default=2000, help="length of the film (default: %(default)s)")
    add("--early", type=int, default=200, metavar="N", help="read memory after N frames too (default: %(default)s)")
    add("--ways", nargs="+", choices=[PLAIN, TRACKED, WINDOWS], help="only these (default: all that the model can)")
    add("--threshold", type=float, default=0.5, help="least score of an object (default: %(default)s)")
    add("--threads", type=int, default=1, help="number of CPU threads (default: %(default)s)")
    add("--json", type=Path, help="write all numbers to this file")
    add("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="configuration keys to change, last")
