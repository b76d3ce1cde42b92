"""torchvision's and timm's ResNet checkpoints, as the weights of Detectron2's ResNet backbone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

_RULES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    # timm's stem of three convolutions (such as resnet50c's) is DeepLab's.
    (r"^conv1\.([036])\.", lambda match: f"stem.conv{int(match[1]) // 3 + 1}."),
    (r"^conv1\.([14])\.", lambda match: f"stem.conv{int(match[1]) // 3 + 1}.norm."),
    (r"^(conv1|bn1)\.", r"stem.\1."),
    (r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
]


def is_torchvision(state: Mapping[str, object]) -> bool:
    """Tell whether the names are those of torchvision's ResNets."""
    return "bn1.running_mean" in state and "layer1.0.conv1.weight" in state


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert their names to ours of the backbone, without the classifier.

    torchvision's stride is in the 3x3 convolutions and its images are RGB: ``MODEL.RESNETS.STRIDE_IN_1X1`` False,
    ``INPUT.FORMAT`` RGB, as in ``configs/_base_/mask2former.yaml``.

    Raises:
        NotImplementedError: a variant of timm's that Detectron2 lacks (pooled shortcuts, squeeze and excitation).
    """
    unlike = [name for name in state if re.search(r"\.downsample\.2\.|\.se\.|\.aa\.", name)]
    if unlike:
        raise NotImplementedError(f"Detectron2's ResNets have no part like {unlike[0]}, which a variant of timm's has.")
    deep = "conv1.6.weight" in state
    converted = {}
    for name, value in state.items():
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        if deep:
            name = re.sub(r"^bn1\.", "stem.conv3.norm.", name)
        for pattern, replacement in _RULES:
            name = re.sub(pattern, replacement, name)
        converted["backbone." + name] = value
    return converted
