"""Configurations of models that are built in no time, by Detectron2's and the published keys alone."""

from __future__ import annotations

from detectron2.config import CfgNode, get_cfg

from mask2former import add_maskformer2_config


def configuration(v1: bool = False) -> CfgNode:
    """A small network with R18."""
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    model, head, former = cfg.MODEL, cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    model.DEVICE, model.META_ARCHITECTURE, model.BACKBONE.NAME = "cpu", "MaskFormer", "build_resnet_backbone"
    model.RESNETS.DEPTH, model.RESNETS.RES2_OUT_CHANNELS, model.RESNETS.STRIDE_IN_1X1 = 18, 64, False
    model.RESNETS.OUT_FEATURES = head.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    head.NAME, head.NORM, head.NUM_CLASSES = "MaskFormerHead", "GN", 7
    head.CONVS_DIM = head.MASK_DIM = former.HIDDEN_DIM = 32
    head.TRANSFORMER_ENC_LAYERS, former.NHEADS, former.DIM_FEEDFORWARD, former.DEC_LAYERS = 1, 4, 32, 3
    former.NUM_OBJECT_QUERIES = 12
    if v1:
        head.PIXEL_DECODER_NAME, former.TRANSFORMER_IN_FEATURE = "TransformerEncoderPixelDecoder", "transformer_encoder"
        former.TRANSFORMER_DECODER_NAME = "StandardTransformerDecoder"
    else:
        head.PIXEL_DECODER_NAME = "MSDeformAttnPixelDecoder"
        former.TRANSFORMER_IN_FEATURE = "multi_scale_pixel_decoder"
    return cfg
