"""Hooks of the trainer: averaged weights, checkpoints, progress, the page of curves, and images that were left out."""

from mask2former.engine.hooks.bad_images import BadImagesHook
from mask2former.engine.hooks.checkpoints import CheckpointHook
from mask2former.engine.hooks.curves import CurvesHook
from mask2former.engine.hooks.progress import ProgressHook
from mask2former.engine.hooks.weight_average import WeightAverageHook

__all__ = ["BadImagesHook", "CheckpointHook", "CurvesHook", "ProgressHook", "WeightAverageHook"]
