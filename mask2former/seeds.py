"""Random numbers that depend on a place (a step, an image of the stream) and not on what was computed before.

A training that resumes at a step then draws what the uninterrupted one would have drawn there, on every process and
with any number of workers, and no state of a generator has to be saved.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

_STEP, _IMAGE = 1, 2  # so that a step and an image of the same number differ


def seed_step(seed: int, iteration: int, rank: int) -> None:
    """Seed Python, NumPy and PyTorch (on all devices, without waiting for them) for one training step of a process."""
    python, numpy, torch_seed = _mixed(seed, _STEP, iteration, rank)
    random.seed(python)
    np.random.seed(numpy)
    torch.manual_seed(torch_seed)


@contextlib.contextmanager
def image_seeds(seed: int, position: int) -> Iterator[None]:
    """Seed Python, NumPy and PyTorch's CPU for one image of the stream, and give them back as they were."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    python, numpy, torch_seed = _mixed(seed, _IMAGE, position)
    random.seed(python)
    np.random.seed(numpy)
    torch.default_generator.manual_seed(torch_seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def _mixed(*numbers: int) -> tuple[int, int, int]:
    """Mix non-negative integers of any size into three seeds below 2^32."""
    first, second, third = np.random.SeedSequence(numbers).generate_state(3).tolist()
    return first, second, third
