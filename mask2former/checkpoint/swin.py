"""Swin Transformer's own checkpoints for classification, as the backbone's weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

_BACKBONE = "backbone."
_TABLE = "relative_position_bias_table"
_ABSOLUTE = "absolute_pos_embed"
# Dropped: their classifier and the norm before it; derived: tables that follow from the size of images and windows.
_DROPPED = ("head.", "norm.")
_DERIVED = ("relative_position_index", "attn_mask")


def is_swin(state: Mapping[str, object]) -> bool:
    """Tell whether the names are those of a stand-alone Swin Transformer."""
    return f"layers.0.blocks.0.attn.{_TABLE}" in state


def from_swin(state: Mapping[str, Tensor], model: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Convert names of a stand-alone Swin Transformer to ours of the backbone.

    Tables of relative position bias for windows of another size than the model's are resized bicubically as maps of
    (2 M - 1) x (2 M - 1) offsets (arXiv 2103.14030, section 3.2, "Relative position bias"), and so is the absolute
    position embedding, which their files hold as a list of patches.

    Args:
        state: their weights.
        model: the model's parameters, for the sizes of its tables; None: tables keep their size.
    """
    converted = {}
    late = not any(name.startswith("layers.0.downsample.") for name in state)
    for name, value in state.items():
        if name.startswith(_DROPPED) or name.endswith(_DERIVED):
            continue
        if name.startswith(_BACKBONE):  # already renamed by Detectron2's heuristic matching
            converted[name] = value
            continue
        if late and (match := re.match(r"layers\.(\d+)\.downsample\.", name)):
            # recent releases of timm assign the downsampling between two stages to the second one
            name = f"layers.{int(match[1]) - 1}.downsample." + name[match.end() :]
        ours = _BACKBONE + name
        target = None if model is None else model.get(ours)
        if name.endswith(_TABLE):
            rows = len(value) if target is None else len(target)
            value = _resize(_table_to_map(value), math.isqrt(rows)).flatten(2)[0].T.contiguous()
        elif name == _ABSOLUTE:
            grid = _table_to_map(value[0]) if value.dim() == 3 else value
            value = _resize(grid, grid.shape[-1] if target is None else target.shape[-1])
        converted[ours] = value
    return converted


def _table_to_map(table: Tensor) -> Tensor:
    """Reshape [side * side, C] to [1, C, side, side]."""
    side = math.isqrt(len(table))
    return table.T.unflatten(1, (side, side))[None]


def _resize(grid: Tensor, side: int) -> Tensor:
    if grid.shape[-1] == side:
        return grid
    return F.interpolate(grid.float(), size=(side, side), mode="bicubic", align_corners=False).to(grid.dtype)
