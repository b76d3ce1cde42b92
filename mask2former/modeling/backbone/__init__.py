"""Backbones: images to features by name. The ResNets are Detectron2's."""

import contextlib

from mask2former.modeling.backbone.axial_resnet import D2AxialResNet
from mask2former.modeling.backbone.bn_resnet import custom_bn_build_resnet_backbone
from mask2former.modeling.backbone.convnext import D2ConvNeXt
from mask2former.modeling.backbone.plain_vit import PlainViT
from mask2former.modeling.backbone.swin import D2SwinTransformer
from mask2former.modeling.backbone.timm_backbone import TimmBackbone

# This import registers the ResNet with DeepLab's stem (R101c). Detectron2 may be installed without its projects.
with contextlib.suppress(ModuleNotFoundError):
    import detectron2.projects.deeplab  # noqa: F401

__all__ = [
    "D2AxialResNet",
    "D2ConvNeXt",
    "D2SwinTransformer",
    "PlainViT",
    "TimmBackbone",
    "custom_bn_build_resnet_backbone",
]
