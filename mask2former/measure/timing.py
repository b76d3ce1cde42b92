"""Time several functions in turns, so that a machine that slows down affects all of them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

SHORTEST = 0.01  # seconds; a call that takes less is repeated, and its time divided
FEWEST_ROUNDS = 3


class Seconds(float):
    """Returned by a function that measures its own time."""


def by_processor_time(function: Callable[[], object]) -> Callable[[], Seconds]:
    """Return a function that measures the processor's time of another, which programs beside it hardly change.

    It is that of all threads together. A function that measures its own time is believed.
    """

    def timed() -> Seconds:
        started = time.process_time()
        result = function()
        return result if isinstance(result, Seconds) else Seconds(time.process_time() - started)

    return timed


@dataclass(frozen=True)
class Statistics:
    """Statistics of repeated measurements of one thing, in seconds."""

    median: float
    lower_quartile: float
    upper_quartile: float
    fastest: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Statistics:
        """Compute statistics; quartiles are interpolated, and those of one measurement are itself."""
        if not seconds:
            raise ValueError("no times were measured, so there are no statistics.")
        if len(seconds) == 1:
            return cls(seconds[0], seconds[0], seconds[0], seconds[0], 1)
        lower, median, upper = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, lower, upper, min(seconds), len(seconds))

    def scaled(self, factor: float) -> Statistics:
        """Multiply all times by a factor, such as 1 / number of images that were measured together."""
        quartiles = self.lower_quartile * factor, self.upper_quartile * factor
        return Statistics(self.median * factor, *quartiles, self.fastest * factor, self.runs)


@dataclass(frozen=True)
class Patience:
    """The length of a measurement: a number of rounds, or else as many as fit into ``seconds`` for each function."""

    rounds: int | None = None
    seconds: float = 5.0


def take_turns(
    functions: Mapping[str, Callable[[], object]],
    patience: Patience,
    device: torch.device,
    threads: Sequence[int] = (1,),
) -> dict[tuple[str, int], Statistics]:
    """Call every function once a round with each number of CPU threads; return statistics by (name, threads)."""
    before = torch.get_num_threads()
    times: dict[tuple[str, int], list[float]] = {(name, count): [] for count in threads for name in functions}
    calls = {}
    try:
        for name, count in times:  # not counted: first calls load code and fill memory pools
            _use_threads(count)
            functions[name]()
            calls[name, count] = max(1, math.ceil(SHORTEST / max(_time(functions[name], 1, device), 1e-7)))
        end = time.perf_counter() + patience.seconds * len(times)
        done = 0
        while done < (patience.rounds or FEWEST_ROUNDS) or (not patience.rounds and time.perf_counter() < end):
            for count in threads:
                _use_threads(count)
                for name, function in functions.items():
                    times[name, count].append(_time(function, calls[name, count], device))
            done += 1
    finally:
        torch.set_num_threads(before)
    return {key: Statistics.of(seconds) for key, seconds in times.items()}


def _use_threads(count: int) -> None:
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
    torch.ones(1 << 18).add_(1)  # starts the threads, which is not to be timed


def _time(function: Callable[[], object], calls: int, device: torch.device) -> float:
    """Return the mean seconds of a call, over ``calls`` in a row."""
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(calls):
            function()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / 1000 / calls
    spent = 0.0
    for _ in range(calls):
        started = time.perf_counter()
        result = function()
        spent += result if isinstance(result, Seconds) else time.perf_counter() - started
    return spent / calls
