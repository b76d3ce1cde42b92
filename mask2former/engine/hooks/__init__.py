"""Hooks of the trainer: the line of progress and the page of curves."""

from mask2former.engine.hooks.curves import Curves
from mask2former.engine.hooks.progress import Progress

__all__ = ["Curves", "Progress"]
