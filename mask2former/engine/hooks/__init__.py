"""Hooks of the trainer; those that are useful in other trainers too are given here."""

from mask2former.engine.hooks.bad_images import BadImagesHook
from mask2former.engine.hooks.best import BestHook
from mask2former.engine.hooks.checkpoints import CheckpointHook
from mask2former.engine.hooks.curves import CurvesHook
from mask2former.engine.hooks.progress import ProgressHook
from mask2former.engine.hooks.weight_average import WeightAverageHook
from mask2former.engine.hooks.writers import WritersHook

__all__ = [
    "BadImagesHook",
    "BestHook",
    "CheckpointHook",
    "CurvesHook",
    "ProgressHook",
    "WeightAverageHook",
    "WritersHook",
]
