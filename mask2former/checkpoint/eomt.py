"""Parameter names of EoMT: the published ones and Hugging Face's, to and from ours."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mask2former.checkpoint.renaming import Rule, rename

_HEAD, _BLOCK = "sem_seg_head.", "backbone.blocks.{}."
_QUERIES, _PROBABILITIES = _HEAD + "q.weight", "annealing.probabilities"
_THEIR_PREFIX = "network."
_NO_OBJECT_WEIGHT = 0.1  # in every published model

PUBLISHED: list[Rule] = [
    (_THEIR_PREFIX + "encoder.backbone.", "backbone."),
    (_THEIR_PREFIX + "attn_mask_probs", _PROBABILITIES),
    (_THEIR_PREFIX, _HEAD),
]
_SHARED: list[Rule] = [
    ("attn_mask_probs", _PROBABILITIES),
    ("query.weight", _QUERIES),
    ("class_predictor.", _HEAD + "class_head."),
    *((f"mask_head.fc{index + 1}.", f"{_HEAD}mask_head.{2 * index}.") for index in range(3)),
    ("upscale_block.block.{}.layernorm2d.", _HEAD + "upscale.{}.norm."),
    ("upscale_block.block.{}.", _HEAD + "upscale.{}."),
    ("layernorm.", "backbone.norm."),
    ("embeddings.cls_token", "backbone.cls_token"),
    ("embeddings.register_tokens", "backbone.reg_token"),
    ("layers.{}.norm", _BLOCK + "norm"),
    *((f"layers.{{}}.layer_scale{index}.lambda1", f"{_BLOCK}ls{index}.gamma") for index in (1, 2)),
]
HF_DINOV2: list[Rule] = [
    *_SHARED,
    ("embeddings.patch_embeddings.projection.", "backbone.patch_embed.proj."),
    ("embeddings.position_embeddings.weight", "backbone.pos_embed"),
    ("layers.{}.attention.out_proj.", _BLOCK + "attn.proj."),
    ("layers.{}.attention.", _BLOCK + "attn."),
    ("layers.{}.mlp.", _BLOCK + "mlp."),
]
HF_DINOV3: list[Rule] = [
    *_SHARED,
    ("embeddings.patch_embeddings.", "backbone.patch_embed.proj."),
    ("layers.{}.attention.o_proj.", _BLOCK + "attn.proj."),
    ("layers.{}.attention.", _BLOCK + "attn."),
    ("layers.{}.mlp.up_proj.", _BLOCK + "mlp.fc1."),
    ("layers.{}.mlp.down_proj.", _BLOCK + "mlp.fc2."),
]
_QKV = ("q_proj", "k_proj", "v_proj")


def is_ours(state: Mapping[str, object]) -> bool:
    """Tell whether the names are our EoMT's."""
    return _QUERIES in state


def is_published(state: Mapping[str, object]) -> bool:
    """Tell whether the names are the published EoMT's."""
    return _THEIR_PREFIX + "q.weight" in state


def is_hf(state: Mapping[str, object]) -> bool:
    """Tell whether the names are those of Hugging Face's EoMT, with DINOv2 or DINOv3."""
    return {"query.weight", "class_predictor.weight", "embeddings.cls_token"} <= set(state)


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert published names to ours, without class weights and pixel mean, which the config has."""
    return {
        rename(name, PUBLISHED) or name: value
        for name, value in state.items()
        if not name.startswith(("criterion.", _THEIR_PREFIX + "encoder.pixel_"))
    }


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert our names to published ones, with the class weights of the loss as published files have them."""
    converted = {rename(name, PUBLISHED, reverse=True) or name: value for name, value in state.items()}
    return {**converted, "criterion.empty_weight": _empty_weight(state)}


def from_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert Hugging Face's names to ours, packing three projections into one."""
    rules = HF_DINOV2 if _is_dinov2(state) else HF_DINOV3
    converted: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith("criterion.") or any(part in name for part in _QKV[1:]):
            continue  # the config has it; packed together with q_proj
        ours = rename(name, rules) or name
        if _QKV[0] not in name:
            converted[ours] = value[None] if ours == "backbone.pos_embed" else value
            continue
        query, key, values = (name.replace(_QKV[0], part) for part in _QKV)
        if key in state:
            converted[ours.replace(_QKV[0], "qkv")] = torch.cat([state[query], state[key], state[values]])
        else:  # keys have no bias
            for of, part in (("q", query), ("v", values)):
                converted[ours.replace("q_proj.bias", f"{of}_bias")] = state[part]
    return converted


def to_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert our names to Hugging Face's, the inverse of :func:`from_hf`."""
    rules = HF_DINOV2 if "backbone.pos_embed" in state else HF_DINOV3
    converted = {"criterion.empty_weight": _empty_weight(state)}
    for name, value in state.items():
        pieces = {name: value}
        if ".attn.qkv." in name:
            pieces = {name.replace("qkv", part): piece for part, piece in zip(_QKV, value.chunk(3), strict=True)}
        elif name.endswith((".attn.q_bias", ".attn.v_bias")):
            pieces = {f"{name[:-6]}{name[-6]}_proj.bias": value}
        elif name == "backbone.pos_embed":
            pieces = {name: value[0]}
        for ours, piece in pieces.items():
            converted[rename(ours, rules, reverse=True) or ours] = piece
    return converted


def _is_dinov2(state: Mapping[str, object]) -> bool:
    return "embeddings.position_embeddings.weight" in state


def _empty_weight(state: Mapping[str, Tensor]) -> Tensor:
    weights = torch.ones(len(state[_HEAD + "class_head.bias"]))
    weights[-1] = _NO_OBJECT_WEIGHT
    return weights
