"""Parameter names of Hugging Face's ``SwinBackbone`` inside their Mask2Former, and ours."""

from __future__ import annotations

from mask2former.checkpoint.renaming import Rule, rename

ENCODER = "model.pixel_level_module.encoder."
_SWIN = ENCODER + "swin."
_THEIR_BLOCK = _SWIN + "encoder.layers.{}.blocks.{}."
_BLOCK = "backbone.layers.{}.blocks.{}."
_TABLE = "relative_position_bias_table"

RULES: list[Rule] = [
    (_SWIN + "embeddings.patch_embeddings.projection.", "backbone.patch_embed.proj."),
    (_SWIN + "embeddings.norm.", "backbone.patch_embed.norm."),
    *((_THEIR_BLOCK + f"attention.{part}_proj.", _BLOCK + f"attn.{part}_proj.") for part in "qkv"),
    (_THEIR_BLOCK + "attention.o_proj.", _BLOCK + "attn.proj."),
    (_THEIR_BLOCK + f"attention.relative_position_bias.{_TABLE}", _BLOCK + f"attn.{_TABLE}"),
    (_THEIR_BLOCK + "layernorm_before.", _BLOCK + "norm1."),
    (_THEIR_BLOCK + "layernorm_after.", _BLOCK + "norm2."),
    (_THEIR_BLOCK + "mlp.", _BLOCK + "mlp."),
    (_SWIN + "encoder.layers.{}.downsample.", "backbone.layers.{}.downsample."),
    *((ENCODER + f"hidden_states_norms.stage{i + 1}.", f"backbone.norm{i}.") for i in range(4)),
]
# Names of earlier releases, which most published files have, and their current spelling.
_OLD_BLOCKS: list[Rule] = [
    *(
        (_THEIR_BLOCK + f"attention.self.{old}.", _THEIR_BLOCK + f"attention.{new}_proj.")
        for old, new in (("query", "q"), ("key", "k"), ("value", "v"))
    ),
    (_THEIR_BLOCK + f"attention.self.{_TABLE}", _THEIR_BLOCK + f"attention.relative_position_bias.{_TABLE}"),
    (_THEIR_BLOCK + "attention.output.dense.", _THEIR_BLOCK + "attention.o_proj."),
    (_THEIR_BLOCK + "intermediate.dense.", _THEIR_BLOCK + "mlp.fc1."),
    (_THEIR_BLOCK + "output.dense.", _THEIR_BLOCK + "mlp.fc2."),
]


def is_derived(name: str) -> bool:
    """Tell whether a parameter of theirs has no counterpart in ours: a table of indices, or an unused norm."""
    return name.startswith(ENCODER) and (
        name.endswith("relative_position_index")
        or name.removeprefix(ENCODER).startswith(("swin.layernorm.", "layernorm."))
    )


def current(name: str) -> str:
    """Return the current spelling of a name of theirs that may come from an earlier release."""
    if name.startswith((ENCODER + "embeddings.", ENCODER + "encoder.layers.")):
        name = name.replace(ENCODER, _SWIN, 1)
    return rename(name, _OLD_BLOCKS) or name
