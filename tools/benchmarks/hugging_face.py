"""Hugging Face's Mask2Former at the sizes of one of our configurations."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from detectron2.config import CfgNode
from torch import Tensor, nn

from benchmarks.steps import Setting, Step, read_config

BLOCKS = {18: ("basic", [2, 2, 2, 2]), 34: ("basic", [3, 4, 6, 3]), 50: ("bottleneck", [3, 4, 6, 3])}
BLOCKS[101] = ("bottleneck", [3, 4, 23, 3])


def backbone_config(cfg: Any) -> Any:
    """Return transformers' configuration of the same ResNet or Swin."""
    from transformers import ResNetConfig, SwinConfig

    stages = [f"stage{i}" for i in (1, 2, 3, 4)]
    if cfg.MODEL.BACKBONE.NAME == "D2SwinTransformer":
        swin = cfg.MODEL.SWIN
        sizes = {"embed_dim": swin.EMBED_DIM, "depths": list(swin.DEPTHS), "num_heads": list(swin.NUM_HEADS)}
        sizes |= {"window_size": swin.WINDOW_SIZE, "image_size": swin.PRETRAIN_IMG_SIZE}
        return SwinConfig(**sizes, drop_path_rate=swin.DROP_PATH_RATE, out_features=stages)
    kind, depths = BLOCKS[cfg.MODEL.RESNETS.DEPTH]
    widths = [64, 128, 256, 512] if kind == "basic" else [256, 512, 1024, 2048]
    return ResNetConfig(layer_type=kind, depths=depths, hidden_sizes=widths, out_features=stages)


def their_model(cfg: CfgNode) -> nn.Module:
    """Build Hugging Face's Mask2Former of a configuration's sizes and losses, with random weights."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

    head, node = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    config = Mask2FormerConfig(
        backbone_config=backbone_config(cfg),
        feature_size=head.CONVS_DIM,
        mask_feature_size=head.MASK_DIM,
        hidden_dim=node.HIDDEN_DIM,
        encoder_feedforward_dim=head.DEFORMABLE_TRANSFORMER_ENCODER_DIM_FEEDFORWARD,
        encoder_layers=head.TRANSFORMER_ENC_LAYERS,
        decoder_layers=node.DEC_LAYERS,
        dim_feedforward=node.DIM_FEEDFORWARD,
        num_attention_heads=node.NHEADS,
        num_queries=node.NUM_OBJECT_QUERIES,
        num_labels=head.NUM_CLASSES,
        class_weight=node.CLASS_WEIGHT,
        mask_weight=node.MASK_WEIGHT,
        dice_weight=node.DICE_WEIGHT,
        no_object_weight=node.NO_OBJECT_WEIGHT,
        train_num_points=node.TRAIN_NUM_POINTS,
        oversample_ratio=node.OVERSAMPLE_RATIO,
        importance_sample_ratio=node.IMPORTANCE_SAMPLE_RATIO,
        dropout=0.0,
    )
    return Mask2FormerForUniversalSegmentation(config)


def build_theirs(
    setting: Setting,
    images: Tensor,
    masks: list[Tensor],
    classes: list[Tensor],
    autocast: Callable[[], AbstractContextManager[Any]],
) -> Step:
    """Build a step with random weights and the configuration's backbone; its losses are Hugging Face's own."""
    model: Any = their_model(read_config(setting)).to(setting.device).train()
    pixels = (images - 127) / 60
    floats = [m.float() for m in masks]

    def loss() -> Tensor:
        with autocast():
            return model(pixel_values=pixels, mask_labels=floats, class_labels=classes).loss.sum()

    level = model.model.pixel_level_module
    modules = {"backbone": level.encoder, "pixel decoder": level.decoder, "decoder": model.model.transformer_module}
    return Step(loss, {**modules, "matching": model.criterion.matcher, "criterion": model.criterion}, model)
