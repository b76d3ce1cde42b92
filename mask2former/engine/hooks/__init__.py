"""Hooks of the trainer: progress, the page of curves, and images that were left out."""

from mask2former.engine.hooks.bad_images import BadImagesHook
from mask2former.engine.hooks.curves import CurvesHook
from mask2former.engine.hooks.progress import ProgressHook

__all__ = ["BadImagesHook", "CurvesHook", "ProgressHook"]
