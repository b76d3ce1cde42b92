"""Hooks of the trainer: progress and the page of curves."""

from mask2former.engine.hooks.curves import CurvesHook
from mask2former.engine.hooks.progress import ProgressHook

__all__ = ["CurvesHook", "ProgressHook"]
