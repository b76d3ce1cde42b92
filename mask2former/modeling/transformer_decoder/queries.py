"""The configuration that all transformer decoders share."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode


def queries_from_config(cfg: CfgNode, in_channels: int) -> dict[str, Any]:
    """Return the arguments that every decoder's constructor takes, apart from its number of layers."""
    node = cfg.MODEL.MASK_FORMER
    return {
        "in_channels": in_channels,
        "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        "hidden_dim": node.HIDDEN_DIM,
        "num_queries": node.NUM_OBJECT_QUERIES,
        "num_heads": node.NHEADS,
        "dim_feedforward": node.DIM_FEEDFORWARD,
        "pre_norm": node.PRE_NORM,
        "mask_dim": cfg.MODEL.SEM_SEG_HEAD.MASK_DIM,
        "enforce_input_project": node.ENFORCE_INPUT_PROJ,
    }
