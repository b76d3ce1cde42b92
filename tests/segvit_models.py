"""Configurations of SegViT: small ones, and the published ones by the table of the specification."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode, get_cfg

from mask2former import add_maskformer2_config


def configuration(
    shrunk: bool = False,
    *,
    crop: int = 64,
    dim: int = 24,
    depth: int = 6,
    heads: int = 4,
    taps: tuple[int, ...] = (1, 3, 5),
    head_dim: int = 16,
    head_heads: int = 4,
    classes: int = 5,
    shrink: int = 2,
    **changes: Any,
) -> CfgNode:
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    model, vit, head, former = cfg.MODEL, cfg.MODEL.VIT, cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    model.DEVICE, model.META_ARCHITECTURE, model.BACKBONE.NAME = "cpu", "MaskFormer", "PlainViT"
    model.PIXEL_MEAN, model.PIXEL_STD = [127.5] * 3, [127.5] * 3
    vit.IMAGE_SIZE, vit.EMBED_DIM, vit.DEPTH, vit.NUM_HEADS = crop, dim, depth, heads
    vit.CLASS_TOKEN, vit.NUM_REGISTERS, vit.LAYER_SCALE, vit.FINAL_NORM = False, 0, 0.0, False
    vit.DROP_PATH_ON = "mlp"
    if shrunk:
        vit.SHRINK_BLOCK, taps = shrink, (taps[0], taps[-1])
    vit.OUT_BLOCKS = list(taps)
    head.NAME, head.NUM_CLASSES, head.IN_FEATURES = "MaskFormerHead", classes, [f"block{tap}" for tap in taps]
    head.PIXEL_DECODER_NAME = "QueryUpsamplingPixelDecoder" if shrunk else "ProjectingPixelDecoder"
    head.CONVS_DIM = former.HIDDEN_DIM = head_dim
    former.NHEADS, former.DIM_FEEDFORWARD, former.SIZE_DIVISIBILITY = head_heads, 4 * head_dim, 0
    former.TRANSFORMER_IN_FEATURE, former.MASK_LOSS, former.MATCHER = (
        "multi_scale_pixel_decoder",
        "focal",
        "ClassMatcher",
    )
    former.TRANSFORMER_DECODER_NAME = "AttentionToMaskDecoder" if shrunk else "AttentionToMaskCascade"
    for key, value in changes.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg
