"""The model of timm's that takes weights of a plain ViT: its name, and what has to be said beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

# (channels, blocks, channels of the feed-forward network, gated) of the sizes that timm names, by family.
_AUGREG = {
    (192, 12, 768, False): "tiny_patch16",
    (384, 12, 1536, False): "small_patch16",
    (768, 12, 3072, False): "base_patch16",
    (1024, 24, 4096, False): "large_patch16",
    (1280, 32, 5120, False): "huge_patch14",
}
_DINOV2 = {
    (384, 12, 1536, False): "small",
    (768, 12, 3072, False): "base",
    (1024, 24, 4096, False): "large",
    (1536, 40, 4096, True): "giant",
}
_DINOV3 = {
    (384, 12, 1536, False): "small",
    (384, 12, 1536, True): "small_plus",
    (768, 12, 3072, False): "base",
    (1024, 24, 4096, False): "large",
    (1280, 32, 5120, True): "huge_plus",
    (4096, 40, 8192, True): "7b",
}
_REGISTERS = 4  # of every published ViT that has some


def timm_form(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """Return the arguments of ``timm.create_model`` whose model takes the weights: its name, and those by keyword.

    A size that timm has no name for is described by its numbers, but for ``num_heads``, which weights do not tell.

    Args:
        state: weights of a plain ViT by timm's names.
    """
    weight = state["patch_embed.proj.weight"]
    channels, patch = weight.shape[0], weight.shape[-1]
    depth = 1 + max(int(match[1]) for name in state if (match := re.match(r"blocks\.(\d+)\.", name)))
    hidden = state["blocks.0.mlp.fc2.weight"].shape[1]
    first = state.get("blocks.0.mlp.fc1.weight")
    size = (channels, depth, hidden, first is None or len(first) == 2 * hidden)
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    if "pos_embed" not in state:
        name, arguments = _dinov3(state, size, registers)
        default_patch = 16
    else:
        name, arguments = _with_table(state, size, registers)
        default_patch = 14 if "patch14" in name else 16
        side = patch * int(state["pos_embed"].shape[1] ** 0.5)
        if side != (518 if name.endswith("dinov2") else 224):
            arguments["img_size"] = side
    if patch != default_patch:
        arguments["patch_size"] = patch
    return name, arguments


def call_of(state: Mapping[str, Tensor]) -> str:
    """Return the call of :func:`timm_form` as Python's source."""
    name, arguments = timm_form(state)
    words = [repr(name), *(f"{key}={value!r}" for key, value in arguments.items())]
    if "embed_dim" in arguments:
        words.append("num_heads=N) with N of MODEL.VIT.NUM_HEADS")
        return f"timm.create_model({', '.join(words)}"
    return f"timm.create_model({', '.join(words)})"


def _with_table(state: Mapping[str, Tensor], size: tuple[int, int, int, bool], registers: int) -> tuple[str, Any]:
    """Return the model with a position table: AugReg's without scales of the layers, DINOv2's with them."""
    scaled = "blocks.0.ls1.gamma" in state
    table, other = (_DINOV2, "giant" if size[3] else "small") if scaled or size[3] else (_AUGREG, "small_patch16")
    part = table.get(size, other)
    arguments = {} if size in table else _numbers(size, 2 if size[3] else 1)
    if table is _AUGREG:
        name, has = f"vit_{part}_224", 0
        arguments["num_classes"] = 0
    else:
        name, has = f"vit_{part}_patch14{'_reg4' if registers else ''}_dinov2", _REGISTERS if registers else 0
        if not scaled:
            arguments["init_values"] = 0.0  # create_model drops None
    if registers != has:
        arguments |= {"reg_tokens": registers, "no_embed_class": True}
    if "cls_token" not in state:
        arguments |= {"class_token": False, "global_pool": ""}
    if "norm.weight" not in state:
        arguments["final_norm"] = False
    return name, arguments


def _dinov3(state: Mapping[str, Tensor], size: tuple[int, int, int, bool], registers: int) -> tuple[str, Any]:
    """Return the model with rotary positions."""
    arguments = {} if size in _DINOV3 else _numbers(size)
    part = _DINOV3.get(size, "small_plus" if size[3] else "small")
    name = f"vit_{part}_patch16_dinov3"
    if "blocks.0.attn.q_bias" in state:
        name, arguments = (name, {**arguments, "qkv_bias": True}) if part == "7b" else (name + "_qkvb", arguments)
    if registers != _REGISTERS:
        arguments["num_reg_tokens"] = registers
    if "cls_token" not in state:
        arguments["class_token"] = False
    if "norm.weight" not in state:
        arguments["use_post_transformer_norm"] = False
    return name, arguments


def _numbers(size: tuple[int, int, int, bool], factor: int = 1) -> dict[str, Any]:
    """Describe a size without a name. ``factor``: how many times timm counts a gated network's channels."""
    channels, depth, hidden, _ = size
    return {"embed_dim": channels, "depth": depth, "mlp_ratio": factor * hidden / channels}
