"""ResNets that Detectron2 distributes, as weights of its backbone: torchvision's under its own names, and Caffe2's."""

from __future__ import annotations

import re
from collections.abc import Mapping

from detectron2.checkpoint.c2_model_loading import convert_basic_c2_names
from torch import Tensor

_BACKBONE = ("stem.", "res2.", "res3.", "res4.", "res5.")
# The count of training steps is never read; "fc1000" is Caffe2's classifier.
_DROPPED = re.compile(r"(^|\.)fc(1000)?\.(weight|bias)$|num_batches_tracked$")


def is_detectron2(state: Mapping[str, object]) -> bool:
    """Tell whether the names are those of Detectron2's ResNet, without a prefix."""
    return "stem.conv1.weight" in state and "res2.0.conv1.weight" in state


def from_detectron2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert names to ours, without the classifier. In a whole detector, only the backbone's names change."""
    return {
        f"backbone.{name}" if name.startswith(_BACKBONE) else name: value
        for name, value in state.items()
        if not _DROPPED.search(name)
    }


def is_caffe2(state: Mapping[str, object]) -> bool:
    """Tell whether the names are those of Detectron's ResNets for Caffe2."""
    return "conv1_w" in state and "res2_0_branch2a_w" in state


def from_caffe2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert Caffe2's names to ours by Detectron2's own rules; the unused bias of the first convolution is kept.

    These networks need BGR images (``INPUT.FORMAT`` BGR), and MSRA's also ``MODEL.PIXEL_STD`` 1 and
    ``MODEL.RESNETS.STRIDE_IN_1X1`` True. Their normalisation has a scale and a bias but no statistics: those of the
    model stay at mean 0 and variance 1.
    """
    return from_detectron2(dict(zip(convert_basic_c2_names(list(state)), state.values(), strict=True)))
