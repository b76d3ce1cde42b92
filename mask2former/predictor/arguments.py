"""Check the arguments of a predictor."""

from __future__ import annotations

from mask2former.visualization import RESULTS


def check_threshold(threshold: float | None) -> None:
    """Refuse a threshold outside of [0, 1] with a ValueError."""
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; it has to be within 0 and 1.")


def at_least_one(batch_size: int) -> int:
    """Return the size of a batch; refuse one below 1 with a ValueError."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it has to be at least 1.")
    return batch_size


def check_task(task: str) -> str:
    """Return a task; refuse what is none with a ValueError."""
    if task not in RESULTS:
        raise ValueError(f"{task!r} is not a task; choose one of {', '.join(RESULTS)}.")
    return task
