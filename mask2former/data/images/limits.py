"""Limits and errors of the readers of images."""

from __future__ import annotations

MAX_PIXELS = 180_000_000  # default of INPUT.MAX_PIXELS
_limit = MAX_PIXELS


class ImageError(ValueError):
    """An image file that is refused; the message names it, says what was found and what to do."""


def set_max_pixels(count: int) -> None:
    """Set how many pixels an image may have in this process, where a reader is not told otherwise.

    Raises:
        ValueError: ``count`` is below 1.
    """
    global _limit
    if count < 1:
        raise ValueError(f"INPUT.MAX_PIXELS is {count}; an image has at least 1 pixel (default: {MAX_PIXELS}).")
    _limit = count


def max_pixels() -> int:
    """Return how many pixels an image may have in this process."""
    return _limit


def require_size(height: int, width: int, limit: int | None, source: str) -> None:
    """Refuse an image without pixels, and one of more than ``limit`` pixels (None: :func:`max_pixels`)."""
    most = _limit if limit is None else limit
    if height < 1 or width < 1:
        raise ImageError(f"{source}: its header says {width} x {height} pixels. Is the file complete?")
    if height * width > most:
        raise ImageError(
            f"{source}: {width} x {height} pixels are more than the limit of {most:,}. Cut or shrink the image, or, if "
            "it is meant to be so large, raise INPUT.MAX_PIXELS."
        )
