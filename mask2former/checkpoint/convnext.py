"""ConvNeXts trained on ImageNet, their authors' files and timm's, as the weights of a D2ConvNeXt."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mask2former.checkpoint.renaming import Rule, rename

_BACKBONE = "backbone."
_CLASSIFIER = ("norm.", "head.")  # after the stages, in both
_TIMM: list[Rule] = [
    ("stem.", _BACKBONE + "downsample_layers.0."),
    ("stages.{}.downsample.", _BACKBONE + "downsample_layers.{}."),
    ("stages.{}.blocks.{}.conv_dw.", _BACKBONE + "stages.{}.{}.dwconv."),
    ("stages.{}.blocks.{}.mlp.fc1.", _BACKBONE + "stages.{}.{}.pwconv1."),
    ("stages.{}.blocks.{}.mlp.fc2.", _BACKBONE + "stages.{}.{}.pwconv2."),
    ("stages.{}.blocks.{}.", _BACKBONE + "stages.{}.{}."),
]


def is_convnext(state: Mapping[str, object]) -> bool:
    """Tell whether the names are those of the authors' ConvNeXt."""
    return {"downsample_layers.0.0.weight", "stages.0.0.dwconv.weight"} <= set(state)


def from_convnext(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert names to ours, without the classifier."""
    return {_BACKBONE + name: value for name, value in state.items() if not name.startswith(_CLASSIFIER)}


def is_timm_convnext(state: Mapping[str, object]) -> bool:
    """Tell whether the names are those of timm's ConvNeXt."""
    return {"stem.0.weight", "stages.0.blocks.0.conv_dw.weight"} <= set(state)


def from_timm_convnext(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert timm's names to ours, without the classifier; 1x1 convolutions become linear maps."""
    converted = {}
    for name, value in state.items():
        if name.startswith(_CLASSIFIER):
            continue
        ours = rename(name, _TIMM) or name
        converted[ours] = value.flatten(1) if ".pwconv" in ours and value.ndim == 4 else value
    return converted
