"""Measure the peak memory of a call.

On a CUDA device, PyTorch's allocator keeps count. On a CPU, the operating system does: Linux can reset a process's
peak of resident memory, so whatever a call adds is seen, even if PyTorch did not allocate it.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import multiprocessing
import platform
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch

Result = TypeVar("Result")
PROC = Path("/proc/self")


def is_measurable(device: torch.device) -> bool:
    return device.type == "cuda" or (platform.system() == "Linux" and (PROC / "clear_refs").exists())


def peak_of(function: Callable[[], object], device: torch.device) -> int:
    """Return the most bytes that a call holds beyond those held before it, including its results.

    On a CPU, call this `apart`, and the function once before: memory that other calls have freed but the process has
    kept would serve this one unseen, and loading code counts. It is exact to a few pages, so small calls count as 0.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        kept = function()
        torch.cuda.synchronize(device)
        del kept
        return torch.cuda.max_memory_allocated(device) - before
    _give_back_freed_memory()
    (PROC / "clear_refs").write_text("5")  # proc(5): resets the peak to what is resident now
    before = _status("VmRSS")
    kept = function()
    peak = _status("VmHWM")
    del kept
    return max(0, peak - before)


def resident() -> int:
    """Return the resident memory of this process, in bytes; Linux only."""
    gc.collect()
    return _status("VmRSS")


def apart(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a module's function in a process that does nothing else, and return its result."""
    return _process().submit(function, *arguments).result()


@functools.cache
def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _give_back_freed_memory() -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)


def _status(key: str) -> int:
    """Read an entry of the process's status, in bytes."""
    for line in (PROC / "status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{PROC / 'status'} has no {key}.")
