"""Parameter names of SegViT: the published ones, plain and shrunk, to and from ours."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mask2former.checkpoint.renaming import Rule, rename
from mask2former.modeling.layers.position_table import resized_table

_THEIRS, _ATM = "decode_head.", "decode_head.atm."
_PIXELS, _PREDICTOR = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
_TABLE, _CLASS_TOKEN = "backbone.pos_embed", "backbone.cls_token"
_PLACES, _CLASSES = _PIXELS + "query_embed.weight", _PREDICTOR + "query_embed.weight"
_MOST_STAGES = 4
_NO_OBJECT_WEIGHT = 0.1  # in every published model
_LOSS = "loss_decode.criterion.empty_weight"  # the weights of the classes in their loss, kept as a buffer

_BACKBONE: list[Rule] = [
    ("backbone.patch_embed.projection.", "backbone.patch_embed.proj."),
    ("backbone.layers.{}.ln", "backbone.blocks.{}.norm"),
    ("backbone.layers.{}.attn.attn.in_proj_weight", "backbone.blocks.{}.attn.qkv.weight"),
    ("backbone.layers.{}.attn.attn.in_proj_bias", "backbone.blocks.{}.attn.qkv.bias"),
    ("backbone.layers.{}.attn.attn.out_proj.", "backbone.blocks.{}.attn.proj."),
    ("backbone.layers.{}.ffn.layers.0.0.", "backbone.blocks.{}.mlp.fc1."),
    ("backbone.layers.{}.ffn.layers.1.", "backbone.blocks.{}.mlp.fc2."),
]
_PROJECTIONS: list[Rule] = [
    rule
    for stage in range(_MOST_STAGES)
    for rule in (
        (f"{_THEIRS}input_proj_{stage + 1}.", f"{_PIXELS}projections.{stage}.linear."),
        (f"{_THEIRS}proj_norm_{stage + 1}.", f"{_PIXELS}projections.{stage}.norm."),
    )
]


def _decoder(theirs: str, ours: str, attention: str, parts: list[Rule]) -> list[Rule]:
    """Return the rules of the decoders; theirs count from 1."""
    names = [
        ("self_attn.", "self_attention.attention."),
        ("norm1.", "self_attention.norm."),
        ("norm2.", f"{attention}.norm."),
        *((f"multihead_attn.{one}", f"{attention}.{other}") for one, other in parts),
        ("norm3.", "feed_forward.norm."),
        ("linear", "feed_forward.linear"),
    ]
    return [
        (f"{theirs}decoder_{stage + 1}.layers.{{}}.{one}", f"{ours}decoders.{stage}.{{}}.{other}")
        for stage in range(_MOST_STAGES)
        for one, other in names
    ]


_MASK_PARTS = [("q.", "query."), ("k.", "key."), ("v.", "value."), ("proj.", "proj.")]
PLAIN: list[Rule] = [
    *_BACKBONE,
    *_PROJECTIONS,
    *_decoder(_THEIRS, _PREDICTOR, "mask_attention", _MASK_PARTS),
    (_THEIRS + "q.", _PREDICTOR + "query_embed."),
    (_THEIRS + "class_embed.", _PREDICTOR + "class_embed."),
]
SHRUNK: list[Rule] = [
    *_BACKBONE,
    *_PROJECTIONS,
    *_decoder(_ATM, _PREDICTOR, "mask_attention", _MASK_PARTS),
    *_decoder(_THEIRS, _PIXELS, "cross_attention", [("", "attention.")]),
    (_ATM + "q.", _PREDICTOR + "query_embed."),
    (_ATM + "class_embed.", _PREDICTOR + "class_embed."),
    (_THEIRS + "q.", _PIXELS + "query_embed."),
]


def is_ours(state: Mapping[str, object]) -> bool:
    """Tell whether the names are our SegViT's, on a plain ViT."""
    return {_TABLE, _CLASSES, _PREDICTOR + "decoders.0.0.mask_attention.key.weight"} <= set(state)


def is_published(state: Mapping[str, object]) -> bool:
    """Tell whether the names are the published SegViT's, plain or shrunk."""
    return {_THEIRS + "q.weight", "backbone.layers.0.ln1.weight"} <= set(state)


def number_of_classes(state: Mapping[str, Tensor]) -> int:
    """Return K, without "no object", of published weights or ours; PASCAL-Context's have 59 or 60."""
    name = next(name for name in (_ATM + "q.weight", _CLASSES, _THEIRS + "q.weight") if name in state)
    return len(state[name])


def from_published(state: Mapping[str, Tensor], model: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Convert published names to ours.

    Left out are the class weights of the loss, which the config has, and the class token with its row of the position
    table, which never reach the output.

    Args:
        state: published weights.
        model: the model's parameters, to whose grids the tables are resized; None: they are kept.
    """
    rules = SHRUNK if _ATM + "q.weight" in state else PLAIN
    converted = {
        rename(name, rules) or name: value
        for name, value in state.items()
        if name != _CLASS_TOKEN and not name.endswith(_LOSS)
    }
    if _TABLE in converted:
        table = converted[_TABLE]
        converted[_TABLE] = table[:, table.shape[1] - round((table.shape[1] - 1) ** 0.5) ** 2 :]
    for name in (_TABLE, _PLACES):
        wanted = (model or {}).get(name)
        if name in converted and wanted is not None and wanted.shape != converted[name].shape:
            side = round(wanted.shape[-2] ** 0.5)
            converted[name] = resized_table(converted[name].view(1, *converted[name].shape[-2:]), (side, side))
            converted[name] = converted[name].view(*wanted.shape[:-2], *converted[name].shape[-2:])
    return converted


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert our names to published ones, with what published files have beyond ours.

    That are the class token and its row of the position table, which are 0, and the class weights of the loss.
    """
    shrunk = _PLACES in state
    rules = SHRUNK if shrunk else PLAIN
    converted = {rename(name, rules, reverse=True) or name: value for name, value in state.items()}
    table = converted[_TABLE]
    row = table.new_zeros(1, 1, table.shape[2])
    weights = torch.ones(number_of_classes(state) + 1)
    weights[-1] = _NO_OBJECT_WEIGHT
    converted |= {_TABLE: torch.cat([row, table], 1), _CLASS_TOKEN: row, _THEIRS + _LOSS: weights}
    return converted | ({_ATM + _LOSS: weights} if shrunk else {})


def to_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Refuse, because there is no such model.

    Raises:
        ValueError: always.
    """
    raise ValueError('Hugging Face has no SegViT; take the target "published" or "ours".')
