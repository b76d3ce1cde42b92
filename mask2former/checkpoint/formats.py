"""Formats of weights: recognised from the names, and converted to ours and from ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mask2former.checkpoint import eomt, hf_resnet, kmax, max_deeplab, segvit
from mask2former.checkpoint.convnext import from_convnext, from_timm_convnext, is_convnext, is_timm_convnext
from mask2former.checkpoint.detectron2_resnet import from_caffe2, from_detectron2, is_caffe2, is_detectron2
from mask2former.checkpoint.efficientnet import from_efficientnet_lite, is_efficientnet_lite
from mask2former.checkpoint.hf import from_hf, is_hf, to_hf
from mask2former.checkpoint.published import from_published, is_published, to_published
from mask2former.checkpoint.swin import from_swin, is_swin
from mask2former.checkpoint.timm import from_timm
from mask2former.checkpoint.timm_vit import from_timm_vit, is_timm_vit, to_timm_vit
from mask2former.checkpoint.torchvision import from_torchvision, is_torchvision

Targets = Mapping[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]]
TARGETS: Targets = {"ours": dict, "published": to_published, "hf": to_hf, "timm": to_timm_vit}
# Of models that are told by our names; all others are of Mask2Former's family. timm's form is of a backbone, whatever
# the model.
OTHER_TARGETS: list[tuple[Callable[[Mapping[str, object]], bool], Targets]] = [
    (eomt.is_ours, {"ours": dict, "published": eomt.to_published, "hf": eomt.to_hf}),
    (segvit.is_ours, {"ours": dict, "published": segvit.to_published, "hf": segvit.to_hf}),
    (
        max_deeplab.is_ours,
        {"ours": dict, "published": max_deeplab.to_published, "hf": max_deeplab.to_hf},
    ),
    (kmax.is_kmax, {"ours": dict, "published": kmax.to_published, "hf": kmax.to_hf}),
]
UNKNOWN = "ours or unknown"
TIMM, EFFICIENTNET_LITE = "timm", "EfficientNet-Lite classifier"
CLASSIFIERS_OF_TIMM = (TIMM, EFFICIENTNET_LITE)  # trained on images as timm says
_OURS = "sem_seg_head.pixel_decoder."


State = Mapping[str, Tensor]


class Format(NamedTuple):
    """One format of weights.

    Attributes:
        name: for reports.
        recognises: tells from the names whether weights have this format.
        to_ours: (weights, the model's parameters or None) -> weights under our names.
    """

    name: str
    recognises: Callable[[State], bool]
    to_ours: Callable[[State, State | None], dict[str, Tensor]]


# Tried in this order; the first that recognises the names is taken. New models add theirs by register_format.
FORMATS = [
    Format("EoMT, published", eomt.is_published, lambda state, _: eomt.from_published(state)),
    Format("EoMT, Hugging Face", eomt.is_hf, lambda state, _: eomt.from_hf(state)),
    Format("SegViT, published", segvit.is_published, segvit.from_published),
    Format("MaX-DeepLab, TensorFlow", max_deeplab.is_published, lambda state, _: max_deeplab.from_published(state)),
    Format("kMaX-DeepLab", kmax.is_kmax, lambda state, _: dict(state)),
    Format("ConvNeXt classifier", is_convnext, lambda state, _: from_convnext(state)),
    Format("timm ConvNeXt", is_timm_convnext, lambda state, _: from_timm_convnext(state)),
    Format("timm ViT", is_timm_vit, from_timm_vit),
    Format("Hugging Face", is_hf, lambda state, _: _from_hf(state)),
    Format("published", is_published, lambda state, _: from_published(state)),
    Format("Swin classifier", is_swin, from_swin),
    Format(EFFICIENTNET_LITE, is_efficientnet_lite, lambda state, _: from_efficientnet_lite(state)),
    Format("torchvision or timm ResNet", is_torchvision, lambda state, _: from_torchvision(state)),
    Format("Detectron2 ResNet", is_detectron2, lambda state, _: from_detectron2(state)),
    Format("Caffe2 ResNet, of BGR images", is_caffe2, lambda state, _: from_caffe2(state)),
]


def register_format(format: Format) -> Format:
    """Register a format, to be tried before the others."""
    FORMATS.insert(0, format)
    return format


def to_ours(state: Mapping[str, Any], model: State | None = None) -> tuple[str, dict[str, Tensor]]:
    """Convert weights of any known format to our names.

    Args:
        state: tensors or arrays by name; the prefix ``module.`` is dropped if all names have it.
        model: the model's parameters, for formats whose tables are resized to it; None: tables keep their size.

    Returns:
        The format's name for reports (:data:`UNKNOWN` where the names are kept), and the weights.

    Raises:
        NotImplementedError: a Hugging Face model with a backbone whose layout is not known.
    """
    tensors = {name: torch.as_tensor(x) if isinstance(x, np.ndarray) else x for name, x in state.items()}
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    if model is not None and (converted := from_timm(tensors, model)) is not None:
        return TIMM, converted
    for format in FORMATS:
        if format.recognises(tensors):
            return format.name, format.to_ours(tensors, model)
    return UNKNOWN, tensors


def _from_hf(state: State) -> dict[str, Tensor]:
    converted = from_hf(state)
    if any(name.startswith(hf_resnet.ENCODER) for name in converted):
        raise NotImplementedError(
            "These are Hugging Face weights with a backbone other than Swin and ResNet, whose layout this release "
            "does not convert; unconverted, they would give a useless model. Take weights of the published system."
        )
    return converted


def convert(state: Mapping[str, Any], target: str) -> dict[str, Tensor]:
    """Convert weights of any known format to another.

    Args:
        state: tensors or arrays by name.
        target: "ours", "published", "hf" or "timm".

    Raises:
        ValueError: the format is not known, or the target has no place for such a model.
    """
    format, ours = to_ours(state)
    if format == UNKNOWN and not any(name.startswith((_OURS, "backbone.")) for name in ours):
        raise ValueError(f"the parameter names match no known format: {', '.join(list(ours)[:3])}, ...")
    targets = next((targets for recognises, targets in OTHER_TARGETS if recognises(ours)), TARGETS)
    converted = {**targets, "timm": to_timm_vit}[target](ours)
    left = [name for name in converted if target == "hf" and name.startswith(("sem_seg_head.", "backbone."))]
    if left:
        raise ValueError(f"Hugging Face's Mask2Former has no such parts: {', '.join(left[:3])}, ...")
    return converted
