"""Weights of timm's plain ViTs (AugReg, DINOv2, DINOv3) as those of a PlainViT of any patch and grid; and back."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from mask2former.modeling.layers.position_table import resized_table

_BACKBONE = "backbone."
_TABLE, _PATCHES = "pos_embed", "patch_embed.proj.weight"
_TOKENS = ("cls_token", "reg_token")


def is_timm_vit(state: Mapping[str, object]) -> bool:
    """Tell whether the names are those of a plain ViT of timm's."""
    return {"blocks.0.attn.qkv.weight", "blocks.0.norm1.weight", _PATCHES} <= set(state)


def from_timm_vit(state: Mapping[str, Tensor], model: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Convert timm's names to ours.

    The classifier is left out, and so are tokens that the model lacks. A position of the class token is added to that
    token if the model has one, for ours have none. Patches and the position table are resized to the model's.

    Args:
        state: timm's weights.
        model: the model's parameters; None: sizes are kept.
    """
    model = model or {}
    converted = {
        _BACKBONE + re.sub(r"\.gamma_([12])$", r".ls\1.gamma", name): value  # DINOv3's spelling
        for name, value in _gates_joined(state).items()
        if not name.startswith(("head.", "fc_norm.", "rope.", "mask_token")) and not name.endswith(".k_bias")
    }
    # timm leaves out biases that are 0 in DINOv3's weights; ours learn on.
    biases = (name for name in model if name.endswith((".attn.q_bias", ".attn.v_bias")) and name not in converted)
    converted |= {name: torch.zeros_like(model[name]) for name in biases}
    ours = {name for name in model if name.startswith(_BACKBONE)}
    table = converted.get(_BACKBONE + _TABLE)
    if table is not None:
        prefix = table.shape[1] - round((table.shape[1] - 1) ** 0.5) ** 2 if _has_rows(table) else 0
        own, table = table[:, :prefix], table[:, prefix:]
        if prefix and _BACKBONE + _TOKENS[0] in converted:
            converted[_BACKBONE + _TOKENS[0]] = converted[_BACKBONE + _TOKENS[0]] + own[:, :1]
        wanted = model.get(_BACKBONE + _TABLE)
        if wanted is not None and wanted.shape[1] != table.shape[1]:
            side = round(wanted.shape[1] ** 0.5)
            table = resized_table(table, (side, side))
        converted[_BACKBONE + _TABLE] = table
    wanted = model.get(_BACKBONE + _PATCHES)
    if wanted is not None:
        converted[_BACKBONE + _PATCHES] = resized_patches(converted[_BACKBONE + _PATCHES], wanted.shape[-1])
    unused = [_BACKBONE + name for name in (*_TOKENS, "norm.weight", "norm.bias")]
    return {name: value for name, value in converted.items() if not (ours and name in unused and name not in ours)}


def to_timm_vit(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the plain ViT of a model to timm's names, the inverse of :func:`from_timm_vit`; other parts are left out.

    A class token without registers gets a row of zeros in the position table, as timm's files have a row for it. Biases
    of DINOv3's queries and values are left out where all are 0: timm has networks with them and without.

    Raises:
        ValueError: the backbone is no plain ViT, or one of a form that timm lacks.
    """
    ours = {name.removeprefix(_BACKBONE): value for name, value in state.items() if name.startswith(_BACKBONE)}
    if not is_timm_vit(ours):
        found = f"its backbone has {', '.join(list(ours)[:3])}, ..." if ours else "there is no backbone in it"
        raise ValueError(f"timm's form is written of plain ViTs (MODEL.BACKBONE.NAME PlainViT), but {found}")
    if other := [name for name in ours if name.startswith(("norm_pre.", "attn_pool."))]:
        raise ValueError(f"timm's form is written of plain ViTs as PlainViT has them, which have no {other[0]}.")
    rotary = _TABLE not in ours
    biases = [name for name in ours if name.endswith((".attn.q_bias", ".attn.v_bias"))]
    if rotary and any(name.endswith(".attn.qkv.bias") for name in ours):
        raise ValueError("timm has no ViT with rotary positions and a bias of keys (MODEL.VIT.KEY_BIAS True).")
    if rotary and "blocks.0.ls1.gamma" not in ours:
        raise ValueError("timm has no ViT with rotary positions and without scales (MODEL.VIT.LAYER_SCALE 0).")
    if not rotary and biases:
        raise ValueError("timm has no ViT with a position table and without a bias of keys (MODEL.VIT.KEY_BIAS False).")
    if not any(bool(ours[name].any()) for name in biases):
        ours = {name: value for name, value in ours.items() if name not in biases}
    if rotary:
        ours = _gates_parted({re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", name): value for name, value in ours.items()})
    elif _TOKENS[0] in ours and _TOKENS[1] not in ours:
        table = ours[_TABLE]
        ours[_TABLE] = torch.cat([table.new_zeros(1, 1, table.shape[2]), table], dim=1)
    return ours


def _gates_joined(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join the two halves of gated networks, which timm's DINOv3 has apart, gate first."""
    joined = {}
    for name, value in state.items():
        if ".fc1_g." in name:
            joined[name.replace("fc1_g", "fc1")] = torch.cat([value, state[name.replace("fc1_g", "fc1_x")]])
        elif ".fc1_x." not in name:
            joined[name] = value
    return joined


def _gates_parted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Part what :func:`_gates_joined` joins; a gated network's first layer has twice the channels of its second."""
    parted = {}
    for name, value in state.items():
        block, is_first, kind = name.partition(".mlp.fc1.")
        if is_first and len(value) == 2 * state[f"{block}.mlp.fc2.weight"].shape[1]:
            for half, piece in zip("gx", value.chunk(2), strict=True):
                parted[f"{block}.mlp.fc1_{half}.{kind}"] = piece
        else:
            parted[name] = value
    return parted


def _has_rows(table: Tensor) -> bool:
    """Tell whether a position table has rows of tokens before those of the patches."""
    return round(table.shape[1] ** 0.5) ** 2 != table.shape[1]


def resized_patches(weight: Tensor, side: int) -> Tensor:
    """Resize a patch embedding [C, 3, p, p], so that resized patches get the same tokens (FlexiViT, arXiv 2212.08013).

    With B the matrix of (bicubic) resizing from p to ``side``, it is ``pinv(B^T) weight``, section 3.4.
    """
    before = weight.shape[-1]
    if before == side:
        return weight
    basis = torch.eye(before**2, dtype=torch.float64).view(before**2, 1, before, before)
    resize = F.interpolate(basis, (side, side), mode="bicubic", antialias=True, align_corners=False).flatten(1)
    inverse = torch.linalg.pinv(resize)  # [side^2, p^2]
    flat = weight.double().flatten(2) @ inverse.T
    return flat.unflatten(2, (side, side)).to(weight.dtype)
