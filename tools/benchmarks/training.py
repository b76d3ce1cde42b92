"""`benchmark.py train`: time training steps of several implementations in turns, with their parts and memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import parse_size
from benchmarks.hugging_face import build_theirs
from benchmarks.steps import Setting, Step, read_config
from mask2former.measure.memory import apart, is_measurable, peak_of
from mask2former.measure.timing import Patience, by_processor_time, take_turns

PARTS = ("backbone", "pixel decoder", "decoder", "matching", "losses", "backward", "optimiser", "other")
CONTESTANTS = {
    "ours": "ours",
    "compiled": "ours, torch.compile",
    "straightforward": "straightforward",
    "huggingface": "Hugging Face",
}


@dataclass(frozen=True)
class Row:
    """Measurements of a step: times in seconds, memory in bytes beyond weights and optimiser state.

    Attributes:
        ratio: the straightforward step's time divided by this one; None if it did not take part.
        first: seconds of the first step, in which compilers compile.
        parts: seconds by :data:`PARTS`.
    """

    setting: Setting
    contestant: str
    threads: int
    median: float
    lower_quartile: float
    upper_quartile: float
    runs: int
    ratio: float | None
    first: float
    peak: int | None
    parts: dict[str, float]

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def measure(
    setting: Setting,
    names: Sequence[str],
    threads: Sequence[int],
    patience: Patience,
    memory: bool,
    processor: bool = False,
) -> list[Row]:
    """Time the contestants' steps in turns; ``processor``: by the time of the processor, all threads together."""
    device = torch.device(setting.device)
    peaks = {name: _peak(name, setting) for name in names} if memory and is_measurable(device) else {}
    steps = {name: build(name, setting) for name in names}
    first = {name: _seconds(step, device) for name, step in steps.items()}
    timed: dict[str, Callable[[], object]] = {
        name: by_processor_time(step) if processor else step for name, step in steps.items()
    }
    times = take_turns(timed, patience, device, threads)
    torch.set_num_threads(min(threads))
    rounds = min(3, patience.rounds or 3)
    parts = {name: breakdown(step, device, rounds) for name, step in steps.items()}
    rows = []
    for (name, count), taken in times.items():
        ratio = times["straightforward", count].median / taken.median if "straightforward" in steps else None
        measured = (taken.median, taken.lower_quartile, taken.upper_quartile, taken.runs)
        rows.append(Row(setting, name, count, *measured, ratio, first[name], peaks.get(name), parts[name]))
    return rows


def build(name: str, setting: Setting) -> Step:
    """Build a contestant with random weights, the same for all of ours."""
    torch.manual_seed(0)
    images, masks, classes = batch(setting)
    autocast = _autocast(setting)
    if name == "huggingface":
        return build_theirs(setting, images, masks, classes, autocast)
    return _build_ours(name, setting, images, masks, classes, autocast)


def _build_ours(
    name: str,
    setting: Setting,
    images: Tensor,
    masks: list[Tensor],
    classes: list[Tensor],
    autocast: Callable[[], AbstractContextManager[Any]],
) -> Step:
    from detectron2.modeling import build_model
    from detectron2.structures import BitMasks, Instances

    from benchmarks.operator import without_library
    from benchmarks.straightforward import make_straightforward

    model: Any = build_model(read_config(setting)).train()
    if name == "straightforward":
        model = make_straightforward(model)
    size = (int(images.shape[2]), int(images.shape[3]))
    inputs = [
        {"image": image, "instances": Instances(size, gt_masks=BitMasks(m), gt_classes=c)}
        for image, m, c in zip(images, masks, classes, strict=True)
    ]
    head = model.sem_seg_head
    parts = {"backbone": model.backbone, "pixel decoder": head.pixel_decoder, "decoder": head.predictor}
    if name == "compiled":
        for part in parts.values():
            part.compile(dynamic=False)

    def loss() -> Tensor:
        with autocast():
            return sum(model(inputs).values())  # type: ignore[return-value]

    modules = {**parts, "matching": model.criterion.matcher, "criterion": model.criterion}
    return Step(loss, modules, model, without_library if name == "straightforward" else nullcontext)


def batch(setting: Setting) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Make images [B, 3, H, W] in [0, 255], and each one's masks bool [N, H, W] (ellipses) and classes [N]."""
    count, height, width = parse_size(setting.size)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, height, width, generator=generator) * 255
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    masks, classes = [], []
    for _ in range(count):
        places = torch.rand(setting.objects, 4, 1, 1, generator=generator)
        across, down = (
            (x - places[:, 0]) / (0.05 + 0.3 * places[:, 2]),
            (y - places[:, 1]) / (0.05 + 0.3 * places[:, 3]),
        )
        masks.append((across.square() + down.square() < 1).to(setting.device))
        classes.append((torch.arange(setting.objects) % 2).to(setting.device))
    return images.to(setting.device), masks, classes


def breakdown(step: Step, device: torch.device, rounds: int = 3) -> dict[str, float]:
    """Return the median seconds in each of :data:`PARTS`; "other" is the time between them."""
    taken: list[dict[str, float]] = []
    for _ in range(rounds):
        with _clock(step, device) as inside:
            start = before = _now(device)
            for stage in step.stages():
                inside[stage] = _now(device) - before
                before = _now(device)
            whole = before - start
        inside.pop("forward")
        inside["losses"] = inside.pop("criterion") - inside["matching"]
        taken.append({**inside, "other": whole - sum(inside.values())})
    return {part: statistics.median(one[part] for one in taken) for part in PARTS}


@contextmanager
def _clock(step: Step, device: torch.device) -> Iterator[dict[str, float]]:
    """Add up the seconds in the forward passes of modules, by name."""
    seconds, started, hooks = dict.fromkeys(step.modules, 0.0), {}, []
    for name, module in step.modules.items():

        def before(*_: object, name: str = name) -> None:
            started[name] = _now(device)

        def after(*_: object, name: str = name) -> None:
            seconds[name] += _now(device) - started[name]

        hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    start = _now(device)
    step()
    return _now(device) - start


def _autocast(setting: Setting) -> Callable[[], AbstractContextManager[Any]]:
    if setting.dtype == "float32":
        return nullcontext
    return lambda: torch.autocast(torch.device(setting.device).type, getattr(torch, setting.dtype))


def _peak(name: str, setting: Setting) -> int:
    return peak_here(name, setting) if setting.device.startswith("cuda") else apart(peak_here, name, setting)


def peak_here(name: str, setting: Setting) -> int:
    """Return the peak memory of a step whose optimiser has its state; on a CPU, call it in a fresh process."""
    device = torch.device(setting.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    step = build(name, setting)
    step()
    step.optimizer.zero_grad()
    return peak_of(step, device)
