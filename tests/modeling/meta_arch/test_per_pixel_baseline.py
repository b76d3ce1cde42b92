"""The per-pixel baselines against what their paper says: logits, loss and queries."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_sem_seg_head
from torch import Tensor
from torch.nn import functional as F

from mask2former import add_maskformer2_config

SHAPES = {f"res{i + 2}": ShapeSpec(channels=8, stride=4 * 2**i) for i in range(4)}
CLASSES = 5


def configuration(name: str) -> CfgNode:
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    head, former = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    head.NAME, head.IN_FEATURES, head.NUM_CLASSES, head.LOSS_WEIGHT = name, list(SHAPES), CLASSES, 2.0
    head.CONVS_DIM = head.MASK_DIM = former.HIDDEN_DIM = 32
    former.TRANSFORMER_DECODER_NAME, former.DEC_LAYERS, former.DROPOUT = "StandardTransformerDecoder", 3, 0.0
    return cfg


def features(height: int, width: int) -> dict[str, Tensor]:
    return {n: torch.randn(2, s.channels, -(-height // s.stride), -(-width // s.stride)) for n, s in SHAPES.items()}


@pytest.mark.parametrize("name", ["PerPixelBaselineHead", "PerPixelBaselinePlusHead"])
@pytest.mark.parametrize("size", [(64, 96), (62, 93)], ids=str)
def test_loss_is_cross_entropy_at_full_size(name: str, size: tuple[int, int]) -> None:
    head = build_sem_seg_head(configuration(name), SHAPES)
    inputs = features(*size)
    targets = torch.randint(0, CLASSES, (2, *size))
    targets[:, :10] = 255
    nothing, losses = head(inputs, targets)
    layers = ["", "_0", "_1"] if name == "PerPixelBaselinePlusHead" else [""]
    assert nothing is None and set(losses) == {"loss_sem_seg" + layer for layer in layers}
    logits, no_losses = head.eval()(inputs)
    assert no_losses == {} and logits.shape == (2, CLASSES, 64, 96)
    expected = F.cross_entropy(logits[..., : size[0], : size[1]], targets, ignore_index=255)
    torch.testing.assert_close(losses["loss_sem_seg"], 2.0 * expected)


def test_a_query_is_a_class() -> None:
    head = build_sem_seg_head(configuration("PerPixelBaselinePlusHead"), SHAPES)
    assert head.predictor.query_embed.num_embeddings == CLASSES  # NUM_OBJECT_QUERIES is 100
    assert not any("class_embed" in key for key in head.state_dict())


@pytest.mark.parametrize("name", ["PerPixelBaselineHead", "PerPixelBaselinePlusHead"])
def test_images_without_labels_cost_nothing(name: str) -> None:
    head = build_sem_seg_head(configuration(name), SHAPES)
    _, losses = head(features(64, 64), torch.full((2, 64, 64), 255))
    sum(losses.values()).backward()
    assert all(value == 0 for value in losses.values())
    assert all(p.grad is not None and not p.grad.any() for p in head.predictor.parameters())


def test_mistakes_are_explained() -> None:
    cfg = configuration("PerPixelBaselineHead")
    with pytest.raises(ValueError, match="mask_former_semantic"):
        build_sem_seg_head(cfg, SHAPES)(features(64, 64))
    cfg.MODEL.SEM_SEG_HEAD.COMMON_STRIDE = 8
    with pytest.raises(ValueError, match=r"COMMON_STRIDE is 8.*res2, has stride 4"):
        build_sem_seg_head(cfg, SHAPES)
    cfg = configuration("PerPixelBaselinePlusHead")
    cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME = "MultiScaleMaskedTransformerDecoder"
    with pytest.raises(ValueError, match="StandardTransformerDecoder"):
        build_sem_seg_head(cfg, SHAPES)
