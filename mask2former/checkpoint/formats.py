"""The formats of weights: told from the names, and converted to ours and from ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mask2former.checkpoint import hf_resnet
from mask2former.checkpoint.detectron2_resnet import from_caffe2, from_detectron2, is_caffe2, is_detectron2
from mask2former.checkpoint.hf import from_hf, is_hf, to_hf
from mask2former.checkpoint.published import from_published, is_published, to_published
from mask2former.checkpoint.swin import from_swin, is_swin
from mask2former.checkpoint.torchvision import from_torchvision, is_torchvision

TARGETS: dict[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {
    "ours": dict,
    "published": to_published,
    "hf": to_hf,
}
UNKNOWN = "ours or unknown"
_OURS = "sem_seg_head.pixel_decoder."


def to_ours(state: Mapping[str, Any], model: Mapping[str, Tensor] | None = None) -> tuple[str, dict[str, Tensor]]:
    """Weights of any known format under our names.

    Args:
        state: tensors or arrays by name; a ``module.`` before all of them is dropped.
        model: parameters that they are meant for, where a format's tables depend on their sizes.

    Returns:
        The format's name for reports (:data:`UNKNOWN` where the names are kept), and the weights.

    Raises:
        NotImplementedError: a Hugging Face model with a backbone whose layout is not known.
    """
    tensors = {name: torch.as_tensor(x) if isinstance(x, np.ndarray) else x for name, x in state.items()}
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    if is_hf(tensors):
        converted = from_hf(tensors)
        if any(name.startswith(hf_resnet.ENCODER) for name in converted):
            raise NotImplementedError(
                "These are Hugging Face weights with a backbone other than Swin and ResNet, whose layout this release "
                "does not convert; loaded without it, the model would be worthless. Weights of the published system "
                "load."
            )
        return "Hugging Face", converted
    if is_published(tensors):
        return "published", from_published(tensors)
    if is_swin(tensors):
        return "Swin classifier", from_swin(tensors, model)
    if is_torchvision(tensors):
        return "torchvision or timm ResNet", from_torchvision(tensors)
    if is_detectron2(tensors):
        return "Detectron2 ResNet", from_detectron2(tensors)
    if is_caffe2(tensors):
        return "Caffe2 ResNet, of BGR images", from_caffe2(tensors)
    return UNKNOWN, tensors


def convert(state: Mapping[str, Any], target: str) -> dict[str, Tensor]:
    """Weights of any known format in another.

    Args:
        state: tensors or arrays by name.
        target: "ours", "published" or "hf".

    Raises:
        ValueError: the format is not known, or the target has no place for such a model.
    """
    format, ours = to_ours(state)
    if format == UNKNOWN and not any(name.startswith((_OURS, "backbone.")) for name in ours):
        raise ValueError(f"the names are of no format that is known: {', '.join(list(ours)[:3])}, ...")
    converted = TARGETS[target](ours)
    left = [name for name in converted if target == "hf" and name.startswith(("sem_seg_head.", "backbone."))]
    if left:
        raise ValueError(f"Hugging Face's Mask2Former has no such parts: {', '.join(left[:3])}, ...")
    return converted
