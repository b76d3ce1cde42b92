"""Configurations of models that are built in no time, by Detectron2's and the published keys alone."""

from __future__ import annotations

from detectron2.config import CfgNode, get_cfg
from torch import Tensor, nn

from mask2former import add_maskformer2_config
from mask2former.modeling.criterion import CRITERION_REGISTRY
from mask2former.structures import MaskPrediction


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


@CRITERION_REGISTRY.register()
class AllOutputs(nn.Module):
    """A loss that every output of every layer has a part in, without targets."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()

    def forward(self, prediction: MaskPrediction, targets: object) -> dict[str, Tensor]:
        total = sum(value.float().square().mean() for value in prediction.extras.values())
        for layer in (*prediction.aux, prediction):
            total = total + layer.class_logits.square().mean() + layer.masks.logits().softmax(1).square().mean()
        assert isinstance(total, Tensor)
        return {"loss_all": total}


def kmax(**trans_dec: int) -> CfgNode:
    """A small kMaX-DeepLab with R18, of 20 slots and two layers at each of two strides."""
    cfg = configuration()
    model, node = cfg.MODEL, cfg.MODEL.KMAX_DEEPLAB
    model.META_ARCHITECTURE, model.BACKBONE.NAME, model.RESNETS.NORM = (
        "kMaXDeepLab",
        "custom_bn_build_resnet_backbone",
        "SyncBN",
    )
    model.BACKBONE.FREEZE_AT, model.SEM_SEG_HEAD.NAME = 0, "kMaXDeepLabHead"
    model.PIXEL_MEAN = model.PIXEL_STD = [127.5] * 3
    model.MASK_FORMER.CRITERION = "AllOutputs"
    node.PIXEL_DEC.DEC_LAYERS, node.PIXEL_DEC.DEC_CHANNELS, node.PIXEL_DEC.NUM_HEADS = [1, 2, 1, 1], [16, 8, 8, 8], 4
    slots = node.TRANS_DEC
    slots.DEC_LAYERS, slots.NUM_OBJECT_QUERIES, slots.HIDDEN_DIM, slots.MASK_DIM = [2, 1], 12, 32, 16
    slots.DIM_FEEDFORWARD, slots.NUM_HEADS = 32, 4
    for name, value in trans_dec.items():
        slots[name] = value
    return cfg


def max_deeplab(*options: object) -> CfgNode:
    """A small MaX-DeepLab of 12 slots, with two dual-path stages and a decoder that goes down again.

    Args:
        options: names of keys below ``MODEL.MAX_DEEPLAB`` and their values in turn.
    """
    cfg = configuration()
    model, node = cfg.MODEL, cfg.MODEL.MAX_DEEPLAB
    model.META_ARCHITECTURE, model.BACKBONE.NAME, model.SEM_SEG_HEAD.NAME = (
        "MaXDeepLab",
        "D2MaXDeepLab",
        "MaXDeepLabHead",
    )
    model.PIXEL_MEAN = model.PIXEL_STD = [127.5] * 3
    model.MASK_FORMER.CRITERION = "AllOutputs"
    node.STEM_CHANNELS, node.BLOCKS, node.CHANNELS = [4, 8], [1, 1, 1, 2, 1], [8, 16, 24, 32, 64]
    node.NUM_HEADS, node.DUAL_PATH_FROM_STAGE, node.MEMORY_CHANNELS = 2, 4, 12
    node.BOTTLENECK, node.KEY_CHANNELS, node.VALUE_CHANNELS, node.FEED_FORWARD = 16, 8, 16, 20
    node.DECODER_STRIDES, node.EXTRA_BLOCKS, node.EXTRA_DECODER_STRIDES = [8, 16], 1, [8, 4]
    node.DROP_PATH, node.HEAD_CHANNELS, node.MASK_DIM = 0.0, 16, 8
    cfg.merge_from_list([f"MODEL.MAX_DEEPLAB.{x}" if i % 2 == 0 else x for i, x in enumerate(options)])
    return cfg
