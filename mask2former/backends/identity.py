"""Tell networks of equal weights apart: by the settings of their modules, and the code that runs them."""

from __future__ import annotations

import dataclasses
import hashlib
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Attributes of any module; one's own "forward" computes activations again in training.
_OF_ALL = frozenset(vars(nn.Module())) | {"forward"}
# A model's attributes that its network does not read.
_OUTSIDE = frozenset(
    ["criterion", "distillation", "engine", "keeps_features", "metadata", "pixel_mean", "pixel_std", "post_processing"]
)
_ROOMS = ("__init__.py", "structures.py", "modeling", "ops", "export")  # the first holds the version


def settings_digest(model: nn.Module) -> str:
    """Return the SHA-256 of what a network computes with beside weights: classes, attributes and constants of modules.

    Numbers of heads, the place of normalisations and the like change results, but neither weights nor ``str(model)``.
    Losses, thresholds and normalisation of images are left out, since programs of bare networks do not hold them. So
    are private attributes, which modules compute from others and may fill later.
    """
    digest = hashlib.sha256()
    for path, module in model.named_modules():
        if path.partition(".")[0] in _OUTSIDE:
            continue
        left_out = {*_OF_ALL, *(_OUTSIDE if not path else ())}
        settings = {
            name: _plain(value)
            for name, value in sorted(vars(module).items())
            if name not in left_out and not name.startswith("_")
        }
        digest.update(f"{path} {type(module).__qualname__} {settings}\n".encode())
    weights = model.state_dict()
    for name, value in sorted(model.named_buffers()):
        if name not in weights and name.partition(".")[0] not in _OUTSIDE:
            digest.update(f"{name} {_plain(value)}\n".encode())
    return digest.hexdigest()


@cache
def sources_digest() -> str:
    """Return the SHA-256 of this project's code that networks and their programs are made of, and of its version."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for room in _ROOMS:
        place = root / room
        for file in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """Return what ``repr`` shows alike in every process: values as they are, other objects by their names."""
    if value is None or isinstance(value, (bool, int, float, str, torch.dtype)):
        return str(value) if isinstance(value, Enum) else value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor):
        content = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
        return str(value.dtype), tuple(value.shape), hashlib.sha256(content).hexdigest()
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, map(_plain, value)))
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    return getattr(value, "__qualname__", type(value).__qualname__)
