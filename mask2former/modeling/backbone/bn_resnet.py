"""Detectron2's ResNets with the batch normalisation that kMaX-DeepLab trains."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, build_resnet_backbone
from detectron2.modeling.backbone import ResNet
from torch import nn

from mask2former.modeling.layers.batch_norm import BatchNorm


@BACKBONE_REGISTRY.register()
def custom_bn_build_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build Detectron2's ResNet, whose normalisation has eps 0.001 and momentum 0.01 and is synchronised.

    Raises:
        ValueError: ``MODEL.RESNETS.NORM`` is not SyncBN. (The published code then builds no normalisation at all.)
    """
    if cfg.MODEL.RESNETS.NORM != "SyncBN":
        raise ValueError(
            f"MODEL.RESNETS.NORM is {cfg.MODEL.RESNETS.NORM!r}; custom_bn_build_resnet_backbone needs SyncBN. For "
            "another one set MODEL.BACKBONE.NAME to build_resnet_backbone."
        )
    backbone = build_resnet_backbone(cfg, input_shape)
    for module in backbone.modules():
        norm = getattr(module, "norm", None)
        if isinstance(norm, nn.SyncBatchNorm):  # those that FREEZE_AT froze are no more
            module.norm = BatchNorm(norm.num_features)
    return backbone
