"""Detectron2's ResNets under the keys that this project adds: R101, and R101c with DeepLab's stem."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from mask2former import add_maskformer2_config

pytest.importorskip("detectron2.projects.deeplab")


def resnet(name: str, **values: object) -> nn.Module:
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = name, 0
    node = cfg.MODEL.RESNETS
    node.DEPTH, node.STRIDE_IN_1X1, node.OUT_FEATURES = 101, False, ["res2", "res3", "res4", "res5"]
    for key, value in values.items():
        node[key] = value
    return build_backbone(cfg, ShapeSpec(channels=3)).eval()


@torch.no_grad()
def test_r101c_has_three_convolutions_in_its_stem_and_a_multi_grid() -> None:
    model = resnet("build_resnet_deeplab_backbone", STEM_OUT_CHANNELS=128)
    convolutions = [m for m in model.stem.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.kernel_size, c.stride, c.out_channels) for c in convolutions] == [
        ((3, 3), (2, 2), 64),
        ((3, 3), (1, 1), 64),
        ((3, 3), (1, 1), 128),
    ]
    assert [len(stage) for stage in model.stages] == [3, 4, 23, 3]
    assert [block.conv2.dilation for block in model.stages[3]] == [(1, 1), (2, 2), (4, 4)]
    features = model(torch.randn(1, 3, 64, 96))
    assert {name: tuple(x.shape[1:]) for name, x in features.items()} == {
        "res2": (256, 16, 24),
        "res3": (512, 8, 12),
        "res4": (1024, 4, 6),
        "res5": (2048, 2, 3),
    }


@torch.no_grad()
def test_dilated_stages_keep_their_size() -> None:
    model = resnet("build_resnet_deeplab_backbone", DEPTH=50, RES4_DILATION=2, RES5_DILATION=4)
    assert [block.conv2.dilation[0] for block in model.stages[3]] == [4, 8, 16]
    assert {name: shape.stride for name, shape in model.output_shape().items()} == {
        "res2": 4,
        "res3": 8,
        "res4": 8,
        "res5": 8,
    }


@torch.no_grad()
def test_basic_stem_without_grid_is_the_usual_resnet() -> None:
    usual = resnet("build_resnet_backbone")
    other = resnet("build_resnet_deeplab_backbone", STEM_TYPE="basic", RES5_MULTI_GRID=[1, 1, 1])
    other.load_state_dict(usual.state_dict(), strict=True)
    images = torch.randn(1, 3, 64, 64)
    for name, feature in usual(images).items():
        assert torch.equal(other(images)[name], feature)
