"""`benchmark.py infer`: measure whole models side by side."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any
from unittest import mock

import torch

from benchmarks.models import IMPLEMENTATIONS, Implementation, Part, Setting, other, our_model
from benchmarks.products import Recorder, multiply_adds, replay
from mask2former.measure.memory import apart, is_measurable, peak_of
from mask2former.measure.timing import Patience, by_processor_time, take_turns

FLOOR = "floor"
DEFAULT_FLOOR = "floor, default layout"
REST = "post-processing"
Clock = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """One implementation's measurements in one setting: times in seconds of a batch, memory in bytes.

    Attributes:
        ratio: Hugging Face's time divided by this one; None if it did not take part.
        of_floor: this time divided by that of our network's convolutions and matrix products alone.
        peak: memory beyond the weights; None if it cannot be measured.
        parts: seconds by part, of one more run; REST is the remainder.
    """

    setting: Setting
    name: str
    threads: int
    median: float
    lower_quartile: float
    upper_quartile: float
    runs: int
    ratio: float | None
    of_floor: float | None
    peak: int | None
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        return self.setting.batch / self.median

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def measure(
    setting: Setting,
    names: Sequence[str],
    others: dict[str, str],
    device: torch.device,
    threads: int,
    patience: Patience,
    memory: bool = True,
    floor: bool = True,
    processor: bool = False,
) -> tuple[list[Row], dict[str, Any]]:
    """Return rows and notes: what is absent and why, seconds of compiling, multiply-adds of the network.

    ``processor`` times the processor, all threads together, instead of the clock.
    """
    torch.set_num_threads(threads)
    notes: dict[str, Any] = {}
    present: dict[str, Implementation] = {}
    for name in names:
        try:
            present[name] = IMPLEMENTATIONS[name](setting, device.type)
        except (ImportError, ValueError) as error:
            notes[f"absent: {name}"] = str(error)
    present |= {name: other(command, setting, threads) for name, command in others.items()}
    images = setting.images()
    functions: dict[str, Callable[[], object]] = {
        name: functools.partial(one.run, images) for name, one in present.items()
    }
    if setting.compile and "ours" in functions:
        notes["seconds of the first run, which compiles"] = _seconds(functions["ours"])
    if floor:
        floors, notes["10^9 multiply-adds of the network"] = network_floors(setting, device)
        functions |= floors
    timed = {name: by_processor_time(function) for name, function in functions.items()} if processor else functions
    times = {name: time for (name, _), time in take_turns(timed, patience, device, [threads]).items()}
    clock = time.process_time if processor else time.perf_counter
    parts = {name: parts_of(one.parts, functions[name], device, clock) for name, one in present.items() if one.parts}
    rows = []
    for name, taken in times.items():
        ratio = times["huggingface"].median / taken.median if "huggingface" in times else None
        of_floor = taken.median / times[FLOOR].median if floor else None
        measured = memory and name in IMPLEMENTATIONS and is_measurable(device) and not setting.compile
        peak = _peak(name, setting, device, threads) if measured else None
        rows.append(
            Row(
                *(setting, name, threads, taken.median, taken.lower_quartile, taken.upper_quartile, taken.runs),
                *(ratio, of_floor, peak, parts.get(name, {})),
            )
        )
    return rows, notes


def network_floors(setting: Setting, device: torch.device) -> tuple[dict[str, Callable[[], object]], float]:
    """Return functions that run our network's products, without post-processing, and their 10^9 multiply-adds."""
    model = our_model(setting, device.type)
    recorder = Recorder()
    inputs = [{"image": image} for image in setting.images()]
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=setting.dtype == "bfloat16"), recorder:
        model.predict_raw(inputs)
    floors: dict[str, Callable[[], object]] = {
        FLOOR: replay(recorder.products, device),
        DEFAULT_FLOOR: replay(recorder.products, device, [torch.contiguous_format]),
    }
    return floors, multiply_adds(recorder.products) / 1e9


def _seconds(function: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    started = clock()
    function()
    return clock() - started


def parts_of(
    parts: Sequence[Part], function: Callable[[], object], device: torch.device, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Return the seconds of each part in one run, by ``clock``, and of the remainder."""
    spent: dict[str, float] = dict.fromkeys([name for _, _, name in parts], 0.0)
    with ExitStack() as stack:
        for owner, method, name in parts:
            stack.enter_context(_clocked(owner, method, name, spent, device, clock))
        total = _seconds(function, clock)
        _wait(device)
    return {**spent, REST: total - sum(spent.values())}


@contextmanager
def _clocked(
    owner: object, method: str, name: str, spent: dict[str, float], device: torch.device, clock: Clock
) -> Iterator[None]:
    original = getattr(owner, method)

    def timed(*args: Any, **kwargs: Any) -> Any:
        _wait(device)
        started = clock()
        result = original(*args, **kwargs)
        _wait(device)
        spent[name] += clock() - started
        return result

    with mock.patch.object(owner, method, timed):
        yield


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(name: str, setting: Setting, device: torch.device, threads: int) -> int:
    if device.type == "cuda":
        return peak_here(name, setting, "cuda", threads)
    return apart(peak_here, name, setting, "cpu", threads)


def peak_here(name: str, setting: Setting, device_name: str, threads: int) -> int:
    """Return the peak memory beyond the weights, in bytes; on a CPU, call it in a fresh process."""
    torch.set_num_threads(threads)
    one = IMPLEMENTATIONS[name](setting, device_name)
    images = setting.images()
    one.run(images)  # loads code, which stays in memory and is not to count
    return peak_of(lambda: one.run(images), torch.device(device_name))
