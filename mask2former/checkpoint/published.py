"""Parameter names of the published Mask2Former, to and from ours. Only names differ, never values.

The backbone's names are the same in both, but published files also hold Swin's table of indices.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mask2former.checkpoint.renaming import Rule, rename

_PIXEL = "sem_seg_head.pixel_decoder."
_ENCODER = _PIXEL + "transformer.encoder.layers.{}."
_OUR_ENCODER = _PIXEL + "layers.{}."
_DECODER = "sem_seg_head.predictor."
_OUR_DECODER = _DECODER + "layers.{}."
_V1 = _DECODER + "transformer."

RULES: list[Rule] = [
    (_PIXEL + "transformer.level_embed", _PIXEL + "level_embed"),
    (_ENCODER + "self_attn.", _OUR_ENCODER + "self_attention.attention."),
    (_ENCODER + "norm1.", _OUR_ENCODER + "self_attention.norm."),
    (_ENCODER + "linear", _OUR_ENCODER + "feed_forward.linear"),
    (_ENCODER + "norm2.", _OUR_ENCODER + "feed_forward.norm."),
    (_DECODER + "transformer_cross_attention_layers.{}.multihead_attn.", _OUR_DECODER + "cross_attention.attention."),
    (_DECODER + "transformer_cross_attention_layers.{}.norm.", _OUR_DECODER + "cross_attention.norm."),
    (_DECODER + "transformer_self_attention_layers.{}.self_attn.", _OUR_DECODER + "self_attention.attention."),
    (_DECODER + "transformer_self_attention_layers.{}.norm.", _OUR_DECODER + "self_attention.norm."),
    (_DECODER + "transformer_ffn_layers.{}.", _OUR_DECODER + "feed_forward."),
    (_DECODER + "decoder_norm.", _DECODER + "norm."),
    # MaskFormer v1
    (_PIXEL + "transformer.encoder.norm.", _PIXEL + "encoder_norm."),
    (_V1 + "encoder.norm.", _DECODER + "encoder_norm."),
    (_V1 + "encoder.layers.{}.self_attn.", _DECODER + "encoder_layers.{}.self_attention.attention."),
    (_V1 + "encoder.layers.{}.norm1.", _DECODER + "encoder_layers.{}.self_attention.norm."),
    (_V1 + "encoder.layers.{}.linear", _DECODER + "encoder_layers.{}.feed_forward.linear"),
    (_V1 + "encoder.layers.{}.norm2.", _DECODER + "encoder_layers.{}.feed_forward.norm."),
    (_V1 + "decoder.norm.", _DECODER + "output_norm."),
    (_V1 + "decoder.layers.{}.self_attn.", _DECODER + "decoder_layers.{}.self_attention.attention."),
    (_V1 + "decoder.layers.{}.norm1.", _DECODER + "decoder_layers.{}.self_attention.norm."),
    (_V1 + "decoder.layers.{}.multihead_attn.", _DECODER + "decoder_layers.{}.cross_attention.attention."),
    (_V1 + "decoder.layers.{}.norm2.", _DECODER + "decoder_layers.{}.cross_attention.norm."),
    (_V1 + "decoder.layers.{}.linear", _DECODER + "decoder_layers.{}.feed_forward.linear"),
    (_V1 + "decoder.layers.{}.norm3.", _DECODER + "decoder_layers.{}.feed_forward.norm."),
]
_EMPTY_WEIGHT = "criterion.empty_weight"
_OLD_QUERY = _DECODER + "static_query."
_FPN = r"sem_seg_head\.(?:pixel_decoder\.)?(?:adapter|layer)_\d"
_TABLE, _INDEX = ".relative_position_bias_table", ".relative_position_index"
_NO_OBJECT_WEIGHT = 0.1  # in every published model


def is_published(state: Mapping[str, object]) -> bool:
    """Tell whether the names are the published ones."""
    return any(rename(name, RULES) is not None or name.startswith(_OLD_QUERY) or re.match(_FPN, name) for name in state)


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert published names to ours; unknown names are kept.

    Two older spellings are understood: ``static_query`` for ``query_feat``, and names of the pixel decoder without
    ``pixel_decoder.``.
    """
    rules = _fpn_rules(state) + RULES
    converted = {}
    for name, value in state.items():
        if name == _EMPTY_WEIGHT or name.endswith(_INDEX):
            continue  # derived from the config, not learnt
        if re.match(r"sem_seg_head\.(?!pixel_decoder\.|predictor\.)", name):
            name = name.replace("sem_seg_head.", _PIXEL, 1)
        name = name.replace(_OLD_QUERY, _DECODER + "query_feat.")
        converted[rename(name, rules) or name] = value
    return converted


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert our names to published ones, adding the loss's class weights and Swin's indices as published files do."""
    rules = _fpn_rules(state) + RULES
    converted = {rename(name, rules, reverse=True) or name: value for name, value in state.items()}
    classes = converted.get(_DECODER + "class_embed.bias")
    if classes is not None:
        empty_weight = torch.ones(len(classes))
        empty_weight[-1] = _NO_OBJECT_WEIGHT
        converted[_EMPTY_WEIGHT] = empty_weight
    for name in [name for name in converted if name.endswith(_TABLE)]:
        converted[name.replace(_TABLE, _INDEX)] = _relative_position_index(len(converted[name]))
    return converted


def _relative_position_index(rows: int) -> Tensor:
    """Return the row, in a table of (2 M - 1)^2 offsets, of each pair of the M * M pixels of a window."""
    side = math.isqrt(rows)
    y, x = torch.meshgrid(*[torch.arange((side + 1) // 2)] * 2, indexing="ij")
    corner = (y * side + x).flatten()
    return corner[:, None] - corner + rows // 2


def _fpn_rules(state: Mapping[str, object]) -> list[Rule]:
    """Return rules for the FPN: published names count from 1 at the finest level, ours from 0 at the coarsest."""
    rules = []
    for theirs, ours in (("adapter", "lateral_convs"), ("layer", "output_convs")):
        pattern = rf"sem_seg_head\.(?:pixel_decoder\.)?(?:{theirs}_|{ours}\.)(\d+)\."
        count = len({match[1] for name in state if (match := re.match(pattern, name))})
        rules += [(f"{_PIXEL}{theirs}_{count - index}.", f"{_PIXEL}{ours}.{index}.") for index in range(count)]
    return rules
