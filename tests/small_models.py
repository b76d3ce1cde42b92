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


def max_deeplab(**keys: object) -> CfgNode:
    """A small MaX-DeepLab-S of 12 slots; ``keys`` are those below MODEL.MAX_DEEPLAB."""
    cfg = configuration()
    model, resnet, node = cfg.MODEL, cfg.MODEL.AXIAL_RESNET, cfg.MODEL.MAX_DEEPLAB
    model.META_ARCHITECTURE, model.BACKBONE.NAME, model.SEM_SEG_HEAD.NAME = (
        "MaXDeepLab",
        "D2MaXDeepLab",
        "MaXDeepLabHead",
    )
    model.PIXEL_MEAN = model.PIXEL_STD = [127.5] * 3
    model.MASK_FORMER.CRITERION, model.MASK_FORMER.SIZE_DIVISIBILITY = "AllOutputs", 16
    resnet.STEM_CHANNELS, resnet.DEPTHS, resnet.CHANNELS = [4, 8], [0, 1, 1, 2, 2], [8, 16, 32, 32, 64]
    resnet.NUM_HEADS = node.NUM_HEADS = 4
    node.MEMORY_CHANNELS, node.KEY_CHANNELS, node.DIM_FEEDFORWARD = 16, 8, 24
    node.HEAD_CHANNELS, node.PIXEL_HEAD_CHANNELS, node.MASK_DIM, node.SEMANTIC_DECODER = 12, 8, 8, False
    for name, value in keys.items():
        node[name] = value
    return cfg
