"""Parameter names of Hugging Face's ``Mask2FormerForUniversalSegmentation``, to and from ours.

Swin and ResNet backbones (theirs, and timm's) are known; names of other backbones are kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mask2former.checkpoint import hf_resnet, hf_swin
from mask2former.checkpoint.renaming import Rule, rename
from mask2former.checkpoint.torchvision import from_torchvision

_THEIR_PIXEL = "model.pixel_level_module.decoder."
_THEIR_DECODER = "model.transformer_module."
_THEIR_LAYER = _THEIR_DECODER + "decoder.layers.{}."
_PIXEL = "sem_seg_head.pixel_decoder."
_DECODER = "sem_seg_head.predictor."
_LAYER = _DECODER + "layers.{}."

RULES: list[Rule] = [
    (_THEIR_PIXEL + "level_embed", _PIXEL + "level_embed"),
    (_THEIR_PIXEL + "input_projections.", _PIXEL + "input_proj."),
    (_THEIR_PIXEL + "encoder.layers.{}.self_attn.", _PIXEL + "layers.{}.self_attention.attention."),
    (_THEIR_PIXEL + "encoder.layers.{}.self_attn_layer_norm.", _PIXEL + "layers.{}.self_attention.norm."),
    (_THEIR_PIXEL + "encoder.layers.{}.fc", _PIXEL + "layers.{}.feed_forward.linear"),
    (_THEIR_PIXEL + "encoder.layers.{}.final_layer_norm.", _PIXEL + "layers.{}.feed_forward.norm."),
    (_THEIR_PIXEL + "mask_projection.", _PIXEL + "mask_features."),
    (_THEIR_PIXEL + "adapter_1.1.", _PIXEL + "lateral_convs.0.norm."),
    (_THEIR_PIXEL + "adapter_1.0.", _PIXEL + "lateral_convs.0."),
    (_THEIR_PIXEL + "layer_1.1.", _PIXEL + "output_convs.0.norm."),
    (_THEIR_PIXEL + "layer_1.0.", _PIXEL + "output_convs.0."),
    (_THEIR_DECODER + "queries_embedder.", _DECODER + "query_embed."),
    (_THEIR_DECODER + "queries_features.", _DECODER + "query_feat."),
    (_THEIR_DECODER + "level_embed.", _DECODER + "level_embed."),
    (_THEIR_DECODER + "input_projections.", _DECODER + "input_proj."),
    (_THEIR_LAYER + "self_attn.", _LAYER + "self_attention.attention."),
    (_THEIR_LAYER + "self_attn_layer_norm.", _LAYER + "self_attention.norm."),
    (_THEIR_LAYER + "cross_attn.", _LAYER + "cross_attention.attention."),
    (_THEIR_LAYER + "cross_attn_layer_norm.", _LAYER + "cross_attention.norm."),
    (_THEIR_LAYER + "fc", _LAYER + "feed_forward.linear"),
    (_THEIR_LAYER + "final_layer_norm.", _LAYER + "feed_forward.norm."),
    (_THEIR_DECODER + "decoder.layernorm.", _DECODER + "norm."),
    (_THEIR_DECODER + "decoder.mask_predictor.mask_embedder.{}.0.", _DECODER + "mask_embed.layers.{}."),
    ("class_predictor.", _DECODER + "class_embed."),
    *hf_swin.RULES,
    *hf_resnet.RULES,
]
_EMPTY_WEIGHT = "criterion.empty_weight"
# Projections of query, key and value: one parameter in ours, three in theirs.
_PARTS = ("q_proj", "k_proj", "v_proj")
_PACKED = [(".self_attention.attention.in_proj_", ".self_attention.attention."), (".attn.qkv.", ".attn.")]


def is_hf(state: Mapping[str, object]) -> bool:
    """Tell whether the names are Hugging Face's."""
    return any(name.startswith((_THEIR_PIXEL, _THEIR_DECODER)) for name in state)


def from_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert their names to ours, packing three projections of self-attention into one. Unknown names are kept.

    Raises:
        NotImplementedError: a variant of timm's ResNets that Detectron2 lacks.
    """
    timm = {name.removeprefix(hf_resnet.TIMM): value for name, value in state.items() if hf_resnet.is_timm(name)}
    converted = from_torchvision(timm)
    state = {
        hf_swin.current(name): value
        for name, value in state.items()
        if not (hf_swin.is_derived(name) or hf_resnet.is_derived(name) or hf_resnet.is_timm(name))
    }
    for name, value in state.items():
        ours = rename(name, RULES)
        if name == _EMPTY_WEIGHT or (ours and any(part in ours for part in _PARTS[1:])):
            continue  # derived from the config; packed together with q_proj
        if ours and _PARTS[0] in ours:
            value = torch.cat([state[name.replace(_PARTS[0], part)] for part in _PARTS])
            for together, apart in _PACKED:
                ours = ours.replace(f"{apart}{_PARTS[0]}.", together)
        converted[ours or name] = value
    return converted


def to_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert our names to theirs (of current releases), the inverse of :func:`from_hf`."""
    converted: dict[str, Tensor] = {}
    for name, value in state.items():
        together, apart = next((pair for pair in _PACKED if pair[0] in name), (None, ""))
        spelled = {name: value}
        if together:
            pieces = zip(_PARTS, value.chunk(3), strict=True)
            spelled = {name.replace(together, f"{apart}{part}."): piece for part, piece in pieces}
        for ours, piece in spelled.items():
            converted[rename(ours, RULES, reverse=True) or ours] = piece
    return converted
