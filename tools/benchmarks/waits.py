"""Count how often a call makes the processor wait for the GPU."""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]


def waits_of(function: Callable[[], object]) -> Counter[str]:
    """Return how often each line of this project (or, outside of it, the innermost one) made the processor wait.

    It uses PyTorch's check of synchronising CUDA calls, so the function must run on a GPU; call it once before.
    """
    places: Counter[str] = Counter()

    def note(message: Any, *_: object, **__: object) -> None:
        if "called a synchronizing" in str(message):
            stack = [frame for frame in traceback.extract_stack()[:-1] if frame.filename != warnings.__file__]
            ours = [frame for frame in stack if Path(frame.filename).is_relative_to(ROOT / "mask2former")] or stack
            # Backward passes run in a thread of PyTorch's, where there may be no Python code at all.
            places[f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "in a backward pass"] += 1

    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            function()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return places
