"""`benchmark.py backends`: one model's network in PyTorch, ONNX Runtime and OpenVINO, in float32 and 8 bits."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import parse_size
from benchmarks.command import sub_command, write_numbers
from mask2former.measure.machine import describe
from mask2former.measure.timing import Patience, by_processor_time, take_turns

ABOUT = """The network of a trained model on one image, in every engine that is installed: taking turns, in one process.
Times are the processor's, not the clock's: other programs on the machine disturb them less. Alone on one thread they
are the same.
"""
COLUMNS = """
How to read the table
  network, ms  normalisation, padding and the network: median and half the distance between the quartiles
  whole, ms    from an image in memory to all results of the model
  x torch      PyTorch's time divided by this one: of the network, and of the whole
  difference   greatest of class logits and of mask logits from PyTorch's

Examples
  mask2former export output/mine int8.onnx --int8 --calibrate datasets/mine/images
  %(prog)s --model output/mine --int8 int8.onnx --size 512x512
"""
TORCH = "torch"


@dataclass(frozen=True)
class Row:
    """One engine at one size; times in seconds of the processor.

    Attributes:
        engine: its name, and "int8" behind it for the program in 8 bits.
        network, whole: median, and lower and upper quartile.
        ratio, whole_ratio: PyTorch's median divided by this one's.
        difference: greatest absolute difference of class logits and of mask logits from PyTorch's.
    """

    model: str
    size: tuple[int, int]
    engine: str
    network: tuple[float, float, float]
    whole: tuple[float, float, float]
    ratio: float
    whole_ratio: float
    difference: tuple[float, float]
    runs: int


def run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    facts = describe(torch.device("cpu"))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    predictors, absent = contestants(arguments.model, arguments.program, arguments.int8, arguments.opts)
    for name, reason in absent.items():
        print(f"absent: {name}: {reason}")
    rows = [
        row
        for size in arguments.size
        for row in measure(arguments.model, predictors, size, arguments.repeats, arguments.threads)
    ]
    shown, said = table(rows), words(rows)
    print(f"\n{shown}\n\n" + "\n".join(said))
    if arguments.json:
        report = {
            "machine": facts,
            "threads": arguments.threads,
            "absent": absent,
            "table": shown,
            "words": said,
            "rows": [asdict(row) for row in rows],
        }
        write_numbers(report, arguments.json)


def contestants(
    model: str, program: Path | None, int8: Path | None, opts: Sequence[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a predictor for each engine, PyTorch first, and why others are absent."""
    from mask2former.backends import BACKENDS, BackendError
    from mask2former.predictor import Predictor

    options = {"device": "cpu", "opts": ["INPUT.MIN_SIZE_TEST", "0", *opts]}  # sizes are those that are asked for
    found, absent = {TORCH: Predictor(model, **options)}, {}
    for name in BACKENDS[1:]:
        for suffix, file in {"": program, **({" int8": int8} if int8 else {})}.items():
            try:
                found[name + suffix] = Predictor(model, backend=name, program=file, **options)
            except BackendError as error:
                absent[name + suffix] = str(error)
    return found, absent


@torch.no_grad()
def measure(model: str, predictors: dict[str, Any], size: tuple[int, int], repeats: int, threads: int) -> list[Row]:
    """Time all engines at one size, in turns."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((1, 3, 7, 9), generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic")[0]
    image = (smooth.clamp(0, 1) * 255).byte()
    pixels = image.permute(1, 2, 0).numpy()
    network: dict[str, Callable[[], object]] = {
        name: by_processor_time(lambda one=one: one.model.predict_raw([{"image": image}]))
        for name, one in predictors.items()
    }
    whole: dict[str, Callable[[], object]] = {
        name: by_processor_time(lambda one=one: one(pixels).compute()) for name, one in predictors.items()
    }
    device, patience = torch.device("cpu"), Patience(repeats)
    times = [take_turns(functions, patience, device, [threads]) for functions in (network, whole)]
    predictions = {name: one.model.predict_raw([{"image": image}])[0] for name, one in predictors.items()}
    plain = predictions[TORCH]
    rows = []
    for name, one in predictions.items():
        inner, outer = (found[name, threads] for found in times)
        difference = (
            (one.class_logits - plain.class_logits).abs().max().item(),
            (one.masks.logits() - plain.masks.logits()).abs().max().item(),
        )
        rows.append(
            Row(
                model=Path(model).name,
                size=size,
                engine=name,
                network=(inner.median, inner.lower_quartile, inner.upper_quartile),
                whole=(outer.median, outer.lower_quartile, outer.upper_quartile),
                ratio=times[0][TORCH, threads].median / inner.median,
                whole_ratio=times[1][TORCH, threads].median / outer.median,
                difference=difference,
                runs=inner.runs,
            )
        )
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table."""
    from tabulate import tabulate

    lines = [
        {
            "model": row.model,
            "size": f"{row.size[0]}x{row.size[1]}",
            "engine": row.engine,
            "network, ms": _spread(row.network),
            "x torch": f"{row.ratio:.2f}",
            "whole, ms": _spread(row.whole),
            "x torch, whole": f"{row.whole_ratio:.2f}",
            "difference": f"{row.difference[0]:.1e}, {row.difference[1]:.1e}",
        }
        for row in rows
    ]
    align = ("left",) * 3 + ("right",) * 5
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True, colalign=align)


def words(rows: list[Row]) -> list[str]:
    """Name the fastest engine of each size, in the network and in the whole."""
    said = []
    for size in dict.fromkeys(row.size for row in rows):
        others = [row for row in rows if row.size == size and row.engine != TORCH]
        if not others:
            continue
        network, whole = max(others, key=lambda row: row.ratio), max(others, key=lambda row: row.whole_ratio)
        said.append(
            f"{size[0]}x{size[1]}: fastest in the network is {network.engine}, {network.ratio:.2f} times PyTorch; "
            f"in the whole {whole.engine}, {whole.whole_ratio:.2f} times."
        )
    return said


def _spread(times: tuple[float, float, float]) -> str:
    median, lower, upper = times
    return f"{1000 * median:.1f} ± {500 * (upper - lower):.1f}"


def _size(text: str) -> tuple[int, int]:
    try:
        return parse_size(text)[1:]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    what = "a network in PyTorch, ONNX Runtime and OpenVINO"
    add = sub_command(commands, "backends", run, what=what, about=ABOUT, columns=COLUMNS)
    add("--model", required=True, help="what Predictor takes: a training's folder, weights in one, a published name")
    add("--program", type=Path, metavar="FILE", help="its network in float32 (default: the kept one)")
    add("--int8", type=Path, metavar="FILE", help="its network in 8 bits (default: not measured)")
    add("--size", nargs="+", type=_size, default=[(128, 128)], metavar="HxW", help="image sizes (default: 128x128)")
    add("--threads", type=int, default=1, help="number of CPU threads (default: %(default)s)")
    add("--repeats", type=int, default=7, help="number of rounds, after one that is not counted (default: %(default)s)")
    add("--json", type=Path, help="write all numbers to this file")
    add("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="configuration keys to change, last")
