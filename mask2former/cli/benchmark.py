"""Measure a model's speed and memory on this machine: ``mask2former benchmark``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from mask2former.config import ConfigError
from mask2former.engine.precision import AmpSettings
from mask2former.files import write_text
from mask2former.measure.images import block_image
from mask2former.measure.machine import describe
from mask2former.measure.memory import apart, is_measurable, peak_of
from mask2former.measure.timing import Patience, Statistics, take_turns
from mask2former.predictor import Predictor
from mask2former.predictor.default_model import DEFAULT_MODEL, QUICKSTART, open_default
from mask2former.predictor.load_image import LoadedImage, find_images, load_image

MOST_IMAGES = 8  # of one's own that are measured
MIB = 2**20


@dataclass(frozen=True)
class Setting:
    """Say what a row measures: an engine, a number format, and how many images go through the network at a time."""

    backend: str
    dtype: str
    batch: int


@dataclass(frozen=True)
class Row:
    """Measurements of a setting: seconds of a batch, and bytes.

    Attributes:
        peak: memory beyond the weights; None if it was not measured.
    """

    setting: Setting
    seconds: Statistics
    peak: int | None

    @property
    def images_per_second(self) -> float:
        return self.setting.batch / self.seconds.median

    def to_json(self) -> dict[str, Any]:
        """Return the row as one level of keys."""
        numbers = {"images_per_second": self.images_per_second, "peak": self.peak}
        return {**asdict(self.setting), **asdict(self.seconds), **numbers}


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        settings = settings_of(args)
        if args.json and not Path(args.json).absolute().parent.is_dir():
            raise OSError(f"--json {args.json}: there is no folder {Path(args.json).parent}.")
        images = images_of(args)
        name, predictors = open_predictors(args)
        facts = facts_of(args, name, predictors[args.backend[0]], images)
        print("\n".join(facts_in_words(facts)) + "\n", flush=True)
        rows = measure(args, name, predictors, settings, images)
        print(table(rows))
        if args.json:
            report = {**facts, "rows": [row.to_json() for row in rows]}
            print(f"\nnumbers: {write_text(args.json, json.dumps(report, indent=1))}")
    except (ConfigError, ValueError, OSError) as error:
        sys.exit("error: " + " ".join(str(error).split()))
    return 0


def settings_of(args: argparse.Namespace) -> list[Setting]:
    """Return every combination that there is; engines other than PyTorch compute in the format of their program.

    Raises:
        ValueError: there is none.
    """
    every = [Setting(*one) for one in product(*map(dict.fromkeys, (args.backend, args.dtype, args.batch)))]
    found = [one for one in every if one.backend == "torch" or one.dtype == "float32"]
    if not found:
        raise ValueError(f"--dtype {' '.join(args.dtype)} is for --backend torch: add float32 for the other engines.")
    return found


def images_of(args: argparse.Namespace) -> list[LoadedImage]:
    """Read the first images of one's own, in the order of their sizes, or draw as many as the largest batch.

    Raises:
        OSError, ValueError: there is none, or one cannot be read.
    """
    if args.images:
        found = [load_image(file) for file in find_images(args.images)[:MOST_IMAGES]]
        return sorted(found, key=lambda image: image.pixels.shape)
    generator = torch.Generator().manual_seed(0)
    drawn = [block_image(args.size, generator) for _ in range(max(args.batch))]
    return [LoadedImage(image.permute(1, 2, 0).contiguous().numpy()) for image in drawn]


def open_predictors(args: argparse.Namespace) -> tuple[str, dict[str, Predictor]]:
    """Open the model for each engine; return the name that opens it again, and the predictors by engine."""
    arguments = predictor_arguments(args)
    if args.model:
        return args.model, {one: Predictor(args.model, backend=one, **arguments) for one in args.backend}
    first, note = open_default(backend=args.backend[0], **arguments)
    if note:
        print(f"note: {note}", file=sys.stderr)
    name = str(QUICKSTART) if note else DEFAULT_MODEL
    return name, {one: Predictor(name, backend=one, **arguments) for one in args.backend[1:]} | {args.backend[0]: first}


def predictor_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of a :class:`Predictor` other than the model and the engine."""
    tasks = [args.task] if args.task else None
    unsafe = args.allow_unsafe_config
    return {"tasks": tasks, "device": args.device, "opts": args.opts, "allow_unsafe_config": unsafe}


def facts_of(
    args: argparse.Namespace, name: str, predictor: Predictor, images: Sequence[LoadedImage]
) -> dict[str, Any]:
    """Return what is measured and where, as ``--json`` has it."""
    model = predictor.model
    threads = {"threads": torch.get_num_threads()}
    facts: dict[str, Any] = {
        "machine": {**describe(model.device), **threads},
        "model": name,
        "task": " ".join(predictor.tasks),
    }
    facts["images"] = args.images or "random"
    facts["number"] = len(images)
    facts["sizes"] = sorted({image.pixels.shape[:2] for image in images})
    facts["seen"] = sorted({tuple(predictor.padded(image.pixels).shape[-2:]) for image in images})
    facts["weights"] = sum(x.numel() * x.element_size() for x in model.parameters())
    return facts


def facts_in_words(facts: dict[str, Any]) -> list[str]:
    """Return lines that say what is measured, and what to know of it."""
    sizes, seen = (" ".join(f"{height}x{width}" for height, width in facts[key]) for key in ("sizes", "seen"))
    lines = [
        ", ".join(f"{key} {value}" for key, value in facts["machine"].items()),
        f"model: {facts['model']}, {facts['task']}, weights of {facts['weights'] / MIB:.0f} MiB",
        f"images: {facts['images']}, {facts['number']} of {sizes}; the network sees {seen}",
    ]
    if facts["machine"].get("load", 0) > facts["machine"]["cores"]:
        lines.append("note: other programs keep this machine busy (see load); times are longer than its own.")
    if len(facts["sizes"]) > 1:
        lines.append("note: a batch ends where the size changes, so large ones may not be full.")
    return lines


def measure(
    args: argparse.Namespace,
    name: str,
    predictors: dict[str, Predictor],
    settings: Sequence[Setting],
    images: list[LoadedImage],
) -> list[Row]:
    """Time all settings in turns, then the memory of each."""
    device, threads = predictors[settings[0].backend].model.device, torch.get_num_threads()
    passes = {one: pass_of(one, images) for one in settings}
    works = {str(one): partial(predict, predictors[one.backend], one, passes[one]) for one in settings}
    times = take_turns(works, Patience(args.rounds), device, [threads])
    rows = []
    for one in settings:
        peak = None
        if is_measurable(device) and not args.no_memory:
            batch = images[-1:] * one.batch  # of the largest, whatever the order of sizes in a round
            if device.type == "cuda":
                peak = peak_of(partial(predict, predictors[one.backend], one, batch), device)
            else:
                peak = apart(peak_of_model, name, predictor_arguments(args), one, batch, threads)
        rows.append(Row(one, times[str(one), threads].scaled(one.batch / len(passes[one])), peak))
    return rows


def pass_of(setting: Setting, images: list[LoadedImage]) -> list[LoadedImage]:
    """Return the images of a round: random ones as many as the batch, one's own all, some twice to fill the last."""
    if images[0].name is None:
        return images[: setting.batch]
    count = -(-len(images) // setting.batch) * setting.batch
    return (images * setting.batch)[:count]


def predict(predictor: Predictor, setting: Setting, images: Sequence[LoadedImage]) -> None:
    """Compute all results of a round."""
    with AmpSettings(predictor.model.device.type, getattr(torch, setting.dtype)).autocast():
        for result in predictor.stream(images, setting.batch):
            result.compute()


def peak_of_model(
    name: str, arguments: dict[str, Any], setting: Setting, images: Sequence[LoadedImage], threads: int
) -> int:
    """Return the bytes that a batch takes beyond the weights. Call it in a fresh process."""
    torch.set_num_threads(threads)
    work = partial(predict, Predictor(name, backend=setting.backend, **arguments), setting, images)
    work()  # loads code, which stays in memory and is not to count
    return peak_of(work, torch.device("cpu"))


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        {
            **asdict(row.setting),
            "latency ms": f"{1000 * row.seconds.median:.1f}",
            "spread ms": f"{500 * (row.seconds.upper_quartile - row.seconds.lower_quartile):.1f}",
            "images/s": f"{row.images_per_second:.2f}",
            "peak MiB": "" if row.peak is None else f"{row.peak / MIB:.0f}",
        }
        for row in rows
    ]
    return tabulate(
        lines, headers="keys", tablefmt="github", disable_numparse=True, colalign=["left"] * 2 + ["right"] * 5
    )
