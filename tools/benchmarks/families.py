"""`benchmark.py families`: time and memory of whole networks of every family as images, queries and batches grow."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances

from benchmarks.command import hand_out, sub_command
from benchmarks.families_table import crossings, draw, table
from benchmarks.products import Recorder, multiply_adds
from mask2former.config import load_config
from mask2former.data import register_all
from mask2former.measure.machine import describe
from mask2former.measure.memory import apart, is_measurable, peak_of
from mask2former.measure.timing import Patience, by_processor_time, take_turns
from mask2former.modeling.meta_arch import SegmentationModel

ABOUT = """Networks of every family with random weights, taking turns: from uint8 images to class logits and mask
logits, and training steps (forward, losses, backward; the optimiser is the same for all). Results are left out of
inference: they depend on how many objects are found. With one thread, times are CPU time, which other programs on the
machine hardly change.
"""
COLUMNS = """
How to read the table
  seconds    of a batch: median and half the distance between the quartiles
  G          10^9 multiply-adds of convolutions and matrix products in inference
  peak MiB   memory beyond the weights, in a process of its own; Linux only. A step's has gradients, too

Examples
  %(prog)s --chart families.png --json families.json
  %(prog)s --models coco/panoptic/r50 coco/panoptic/eomt_base_640 --sides 640 --vary side
"""
CONFIGS = Path(__file__).parents[2] / "configs"
MODELS = {
    "coco/panoptic/r50": "Mask2Former R50",
    "coco/panoptic/swin": "Mask2Former Swin-T",
    "ade20k/semantic/segvit_vit_base": "SegViT-B",
    "coco/panoptic/eomt_base_640": "EoMT-B",
    "coco/panoptic/kmax_r50": "kMaX R50",
    "coco/panoptic/max_deeplab_s": "MaX-DeepLab-S",
}
QUERY_KEYS = ("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "MODEL.KMAX_DEEPLAB.TRANS_DEC.NUM_OBJECT_QUERIES")
BY_CLASS = "ClassMatcher"  # SegViT's: a query for each class, so their number is the data set's
OBJECTS = 16  # on a grid of four by four, each of another class


@dataclass(frozen=True)
class Case:
    """Measure a model in inference, or a training step of it, with one size of everything.

    Attributes:
        model: configuration below ``configs``, without suffix.
        step: measure a training step.
        side: height and width of images in pixels.
        batch: images at a time.
        queries: total number of queries; 0: as configured.
    """

    model: str
    step: bool = False
    side: int = 512
    batch: int = 1
    queries: int = 0

    def build(self) -> SegmentationModel:
        """Raises ValueError where the model has a query for each class and other queries are wanted."""
        register_all("datasets")
        words = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.TIMM.PRETRAINED", "False"]
        words += ["MODEL.MASK_FORMER.SIZE_DIVISIBILITY", str(self.side)]  # some pad to the size of their recipe
        if self.queries:
            words += [word for key in QUERY_KEYS for word in (key, str(self.queries))]
        cfg = load_config(str(CONFIGS / f"{self.model}.yaml"), words)
        if self.queries and cfg.MODEL.MASK_FORMER.MATCHER == BY_CLASS:
            raise ValueError(f"{self.model} has a query for each class.")
        torch.manual_seed(0)
        return build_model(cfg).train(self.step)

    def inputs(self, num_classes: int) -> list[dict[str, Any]]:
        generator = torch.Generator().manual_seed(0)
        shape = (3, self.side, self.side)
        masks = torch.zeros(min(OBJECTS, num_classes), self.side, self.side, dtype=torch.bool)
        edge = -(-self.side // 4)
        for index, mask in enumerate(masks):
            row, column = divmod(index, 4)
            mask[row * edge : (row + 1) * edge, column * edge : (column + 1) * edge] = True
        truth = Instances(shape[1:], gt_masks=BitMasks(masks), gt_classes=torch.arange(len(masks)))
        images = [torch.randint(256, shape, dtype=torch.uint8, generator=generator) for _ in range(self.batch)]
        return [{"image": image, "instances": truth} for image in images]

    def function(self, model: SegmentationModel | None = None) -> Callable[[], object]:
        model = model or self.build()
        model.train(self.step)
        inputs = self.inputs(model.num_classes)
        return functools.partial(_step if self.step else _infer, model, inputs)


def _step(model: SegmentationModel, inputs: list[dict[str, Any]]) -> None:
    for parameter in model.parameters():
        parameter.grad = None
    losses: Any = model(inputs)
    sum(losses.values()).backward()


@torch.inference_mode()
def _infer(model: SegmentationModel, inputs: list[dict[str, Any]]) -> object:
    return _predict(model, inputs)


def _predict(model: SegmentationModel, inputs: list[dict[str, Any]]) -> object:
    prediction, _ = model.predict_raw(inputs)
    return prediction.class_logits, prediction.masks.logits()


@dataclass(frozen=True)
class Row:
    """A case's measurements: seconds of a batch, bytes beyond the weights (None: not measurable here)."""

    case: Case
    name: str
    median: float
    lower_quartile: float
    upper_quartile: float
    runs: int
    giga: float | None
    peak: int | None

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def measure(cases: Sequence[Case], threads: int, patience: Patience, memory: bool) -> list[Row]:
    """Measure cases that differ in their model alone, in turns."""
    device = torch.device("cpu")
    functions = {}
    for case in cases:
        try:
            functions[case] = case.function()
        except ValueError as error:
            print(f"left out: {error}", file=sys.stderr)
    named = {
        case.model: by_processor_time(function) if threads == 1 else function for case, function in functions.items()
    }
    times = {name: taken for (name, _), taken in take_turns(named, patience, device, [threads]).items()}
    rows = []
    for case in functions:
        taken = times[case.model]
        giga = None if case.step else _giga(case)
        peak = apart(peak_here, case, threads) if memory and is_measurable(device) else None
        spread = (taken.median, taken.lower_quartile, taken.upper_quartile, taken.runs)
        rows.append(Row(case, MODELS.get(case.model, Path(case.model).name), *spread, giga, peak))
    return rows


def _giga(case: Case) -> float:
    model = case.build()
    # Not in inference mode, in which a linear layer is one operation that the recorder does not see into.
    with torch.no_grad(), Recorder() as recorder:
        _predict(model, case.inputs(model.num_classes))
    return multiply_adds(recorder.products) / 1e9


def peak_here(case: Case, threads: int) -> int:
    """Return the peak memory beyond the weights in bytes; call it in a fresh process."""
    torch.set_num_threads(threads)
    function = case.function()
    function()
    return peak_of(function, torch.device("cpu"))


def run(arguments: argparse.Namespace) -> None:
    facts = describe(torch.device("cpu"))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    variations: dict[str, list[dict[str, Any]]] = {
        "side": [{"side": side} for side in arguments.sides],
        "queries": [{"queries": queries, "side": arguments.side} for queries in arguments.queries],
        "batch": [{"batch": batch, "side": arguments.side} for batch in arguments.batches],
        "step": [{"side": side, "step": True} for side in arguments.step_sides],
    }
    rows: list[Row] = []
    for name in arguments.vary:
        for changes in variations[name]:
            print(f"measuring {changes} ...", file=sys.stderr, flush=True)
            cases = [Case(model, **changes) for model in arguments.models]
            rows += measure(cases, arguments.threads, Patience(arguments.repeats), arguments.memory)
    shown = table(rows)
    print(f"\n{shown}\n")
    said = crossings(rows)
    print("\n".join(said))
    report = {"machine": facts, "threads": arguments.threads, "rows": [row.to_json() for row in rows], "words": said}
    report["table"] = shown
    hand_out(arguments, report, rows, draw)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add = sub_command(commands, "families", run, what="networks of every family", about=ABOUT, columns=COLUMNS)
    add("--models", nargs="+", default=list(MODELS), help="files below configs, without .yaml (default: one each)")
    add("--vary", nargs="+", choices=["side", "queries", "batch", "step"], default=["side", "queries", "batch", "step"])
    add("--sides", nargs="+", type=int, default=[256, 384, 512, 768, 1024], help="sides of images, in pixels")
    add("--queries", nargs="+", type=int, default=[50, 100, 200, 400], help="numbers of queries, at --side")
    add("--batches", nargs="+", type=int, default=[1, 2, 4], help="images at a time, at --side")
    add("--side", type=int, default=512, help="side at which queries and batches vary (default: %(default)s)")
    add("--step-sides", nargs="+", type=int, default=[256, 384, 512], help="sides of images of a training step")
    add("--threads", type=int, default=1, help="number of CPU threads (default: %(default)s)")
    add("--repeats", type=int, default=3, help="number of rounds, after one that is not counted (default: %(default)s)")
    add("--no-memory", dest="memory", action="store_false", help="leave out peak memory")
    add("--json", type=Path, help="write all numbers to this file")
    add("--chart", type=Path, help="draw into this image")
