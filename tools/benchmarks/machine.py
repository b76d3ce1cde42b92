"""Measure the machine's limits: bytes copied and multiply-adds a second."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from mask2former.measure.timing import Patience, take_turns

COPY_BYTES = 512 * 2**20  # far beyond most caches
MATRIX = {"cpu": 1024, "cuda": 8192}
PATIENCE = Patience(rounds=7)


@dataclass(frozen=True)
class Limits:
    """The fastest of a few runs: bytes read and written a second, and multiply-adds a second by dtype."""

    bandwidth: float
    multiply_adds: dict[str, float]

    def floor(self, moved: int, multiply_adds: int, dtype: str) -> float:
        """Return the least seconds in which the machine can move so many bytes and compute so many multiply-adds."""
        return max(moved / self.bandwidth, multiply_adds / self.multiply_adds[dtype])


def measure_limits(
    device: torch.device,
    dtypes: Sequence[str],
    threads: Sequence[int] = (1,),
    copy_bytes: int = COPY_BYTES,
    matrix: int | None = None,
) -> dict[int, Limits]:
    """Time a copy of a large array and the product of two square matrices in each dtype, by number of CPU threads."""
    size = matrix or MATRIX.get(device.type, 1024)
    source = torch.ones(copy_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    work: dict[str, Callable[[], object]] = {"copy": lambda: target.copy_(source)}
    for name in dtypes:
        matrices = torch.randn(2, size, size, device=device).to(getattr(torch, name))
        work[name] = functools.partial(torch.mm, *matrices, out=torch.empty_like(matrices[0]))
    times = take_turns(work, PATIENCE, device, threads)
    return {
        count: Limits(
            2 * copy_bytes / times["copy", count].fastest, {n: size**3 / times[n, count].fastest for n in dtypes}
        )
        for count in threads
    }


def limits_in_words(device: torch.device, dtypes: Sequence[str], threads: Sequence[int]) -> list[str]:
    """Measure the limits, and return a line for each number of threads."""
    lines = []
    for count, limits in measure_limits(device, dtypes, threads).items():
        products = ", ".join(f"{rate / 1e9:.0f} in {name}" for name, rate in limits.multiply_adds.items())
        with_threads = f" with {count} thread{'s' * (count > 1)}" if device.type == "cpu" else ""
        lines.append(
            f"The machine{with_threads} reads and writes {limits.bandwidth / 1e9:.0f} GB/s in a copy; "
            f"10^9 multiply-adds/s: {products}."
        )
    return lines
