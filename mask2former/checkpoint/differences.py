"""Weights that are published as differences to a backbone's own, which a licence keeps from being passed on."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mask2former.checkpoint.formats import to_ours

_BACKBONE = "backbone."


def _wide(*tensors: Tensor) -> torch.dtype:
    return functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)


class Restored(NamedTuple):
    """Weights whose differences are added up.

    Attributes:
        weights: under our names.
        alone: names in the backbone that the base lacks; their differences are taken for the weights, as if its were 0.
    """

    weights: dict[str, Tensor]
    alone: list[str]


def add_differences(differences: Mapping[str, Any], base: Mapping[str, Any]) -> Restored:
    """Add the backbone's weights of ``base`` to those of ``differences``; all other weights are kept as they are.

    Args:
        differences: weights of any known format, such as EoMT's published ones on DINOv3 (arXiv 2503.19108).
        base: the backbone's own weights, of any known format, such as timm's.

    Raises:
        ValueError: the two have no name in common, or one has another shape.
    """
    _, ours = to_ours(differences)
    format, own = to_ours(base, ours)
    shared = [name for name in ours if name.startswith(_BACKBONE) and name in own]
    if not shared:
        count = sum(name.startswith(_BACKBONE) for name in ours)
        raise ValueError(
            f"the base ({format}) has none of the backbone's {count} weights: it has {', '.join(list(own)[:3])}, ..."
        )
    for name in shared:
        wanted, found = tuple(ours[name].shape), tuple(own[name].shape)
        if wanted != found:
            raise ValueError(f"{name} has shape {wanted}, but {found} in the base: it is of another size.")
    # In float32 at least: half a format would cut off the base's last digits.
    added = {name: ours[name].to(_wide(ours[name], own[name])) + own[name] for name in shared}
    return Restored(ours | added, [name for name in ours if name.startswith(_BACKBONE) and name not in own])
