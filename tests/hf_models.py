"""Small models of Hugging Face's Mask2Former with random weights, and the configurations of the same in ours."""

from __future__ import annotations

import torch
import transformers
from detectron2.config import CfgNode, get_cfg
from torch import nn

from mask2former import add_maskformer2_config

CHANNELS, QUERIES, CLASSES = 32, 12, 7
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def their_backbone(name: str) -> object:
    if name == "swin":
        return transformers.SwinConfig(
            embed_dim=12,
            depths=[2, 1, 3, 2],
            num_heads=[1, 2, 3, 4],
            window_size=4,
            drop_path_rate=0.0,
            out_features=STAGES,
        )
    if name == "resnet18":
        return transformers.ResNetConfig(
            hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", out_features=STAGES
        )
    return transformers.ResNetConfig(out_features=STAGES)  # 50 layers


def their_model(backbone: str, **options: object) -> nn.Module:
    """Return their model with random weights; ``options`` are further ones of their configuration."""
    config = transformers.Mask2FormerConfig(
        backbone_config=their_backbone(backbone),
        feature_size=CHANNELS,
        mask_feature_size=CHANNELS,
        hidden_dim=CHANNELS,
        encoder_feedforward_dim=48,
        dim_feedforward=64,
        encoder_layers=2,
        decoder_layers=4,
        num_attention_heads=4,
        num_queries=QUERIES,
        num_labels=CLASSES,
        dropout=0.0,
        **options,
    )
    model = transformers.Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = parameter.dim() == 1 and name.endswith("weight")
            scale = 0.3 if parameter.dim() == 1 else parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn_like(parameter) * scale + norm)
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5)
    return model


def configuration(backbone: str) -> CfgNode:
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "MaskFormer"
    if backbone == "swin":
        cfg.MODEL.BACKBONE.NAME = "D2SwinTransformer"
    else:
        resnet = cfg.MODEL.RESNETS
        cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = "build_resnet_backbone", 0
        resnet.DEPTH, resnet.STRIDE_IN_1X1 = int(backbone.removeprefix("resnet")), False
        resnet.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
        if resnet.DEPTH < 50:
            resnet.RES2_OUT_CHANNELS = 64
    swin, head, former = cfg.MODEL.SWIN, cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    swin.EMBED_DIM, swin.DEPTHS, swin.NUM_HEADS, swin.WINDOW_SIZE = 12, [2, 1, 3, 2], [1, 2, 3, 4], 4
    head.NAME, head.PIXEL_DECODER_NAME = "MaskFormerHead", "MSDeformAttnPixelDecoder"
    head.IN_FEATURES, head.NORM, head.NUM_CLASSES = ["res2", "res3", "res4", "res5"], "GN", CLASSES
    head.CONVS_DIM = head.MASK_DIM = former.HIDDEN_DIM = CHANNELS
    head.TRANSFORMER_ENC_LAYERS, head.DEFORMABLE_TRANSFORMER_ENCODER_DIM_FEEDFORWARD = 2, 48
    former.TRANSFORMER_IN_FEATURE = "multi_scale_pixel_decoder"
    former.NHEADS, former.DIM_FEEDFORWARD, former.DEC_LAYERS, former.DROPOUT = 4, 64, 4, 0.0
    former.NUM_OBJECT_QUERIES = QUERIES
    return cfg
