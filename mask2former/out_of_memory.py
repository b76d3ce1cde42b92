"""Running out of memory: recognised on GPUs and CPUs alike, and answered by half of the work at a time."""

from __future__ import annotations

import gc
import logging
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

# What a GPU's driver and libraries say when they find no memory; the error of PyTorch's allocator has its own class.
_GPU_WORDS = re.compile(r"(CUDA|HIP) error: out of memory|[A-Z]+_STATUS_ALLOC_FAILED")
# What PyTorch's allocator for CPUs, oneDNN, and OpenCV say. oneDNN finds out whether it supports an operation when it
# makes the primitive's descriptor; to create the primitive then takes only room for its code.
_WORDS = re.compile(
    r"DefaultCPUAllocator|bad_alloc|Insufficient memory|[Cc]annot allocate"
    r"|could not create a (memory|primitive(?! descriptor))"
)
_said: set[str] = set()
logger = logging.getLogger(__name__)
Results = TypeVar("Results")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that a GPU's memory, or this process's, is used up."""
    if isinstance(error, MemoryError) or _is_of_gpu(error):
        return True
    # OpenCV's error is no RuntimeError.
    return isinstance(error, Exception) and bool(_WORDS.search(str(error)))


def _is_of_gpu(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_GPU_WORDS.search(str(error)))


def release() -> None:
    """Give back what nothing uses: after an error, its traceback no longer holds tensors, but cycles may."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def need(error: BaseException) -> str:
    """Return, in words, how much memory was in use when it ran out, and how much more was asked for."""
    asked = re.search(r"allocate ([\d.]+ [KMGT]iB|\d+ bytes)", str(error))
    if _is_of_gpu(error) and torch.cuda.is_initialized():
        used, total = torch.cuda.memory_allocated(), torch.cuda.mem_get_info()[1]
        words = f"{used / 2**30:.1f} of the GPU's {total / 2**30:.1f} GiB were in use"
    elif sys.platform == "win32":
        words = "this process's memory is used up"
    else:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        words = f"this process has held {most / 2**30:.1f} GiB at most"
    return words + (f" when {asked[1]} more were asked for" if asked else "")


def in_halves(function: Callable[[Any], list[Results]], items: Sequence[Any]) -> list[Results]:
    """Return ``function(items)``, or where memory runs out, what it returns for halves of them, put together.

    It says once that this happens, for it costs time.

    Args:
        function: takes a slice of ``items``; gives the same for halves as for all together.
        items: two or more can be halved.
    """
    try:
        return function(items)
    except Exception as error:
        if len(items) < 2 or not is_out_of_memory(error):
            raise
    # Here, not above, since the error's traceback holds the tensors of the failed attempt.
    release()
    half = (len(items) + 1) // 2
    say_once(
        f"Out of memory with {len(items)} images at a time: going on with {half}, with the same results. "
        "A smaller batch from the start saves the failed attempts."
    )
    return in_halves(function, items[:half]) + in_halves(function, items[half:])


def say_once(message: str) -> None:
    if message not in _said:
        _said.add(message)
        logger.warning(message)
