"""Configuration keys of the losses for masks that are a softmax over slots (MaX-DeepLab, kMaX-DeepLab)."""

from __future__ import annotations

from detectron2.config import CfgNode as CN


def add_pq_config(cfg: CN) -> None:
    """Add the keys to ``cfg``, in place; weights of the terms are below ``MASK_FORMER`` and ``KMAX_DEEPLAB``."""
    node = cfg.MODEL.PQ = CN()
    # Share of matched slots in the loss of classes and masks; the others have the rest.
    node.ALPHA = 0.75
    # Weight of a slot without a target in the loss of classes: "void_share", the share of its mask that is void, as in
    # the published code; or "one", as in MaX-DeepLab's paper.
    node.NEGATIVE_WEIGHT = "void_share"
    # Temperature of instance discrimination.
    node.INSDIS_TEMPERATURE = 0.3
    # SemanticLoss: weight of the pixels of things that are smaller than an area, in pixels of the padded image.
    node.SMALL_THING_WEIGHT = 1.0
    node.SMALL_THING_AREA = 4096
