"""kMaX-DeepLab with what the house has for every model: test-time augmentation, a folder's predictor, start values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances
from fvcore.nn.precise_bn import update_bn_stats
from small_models import kmax
from torch import nn

from mask2former import Predictor
from mask2former.evaluation.tta import SegmentorWithTTA
from mask2former.modeling.kmax import kMaXDeepLab
from mask2former.modeling.kmax.predictor import MaskNorm
from mask2former.modeling.layers.axial_attention import AxialAttention
from mask2former.modeling.layers.batch_norm import BatchNorm


def configuration() -> CfgNode:
    cfg = kmax()
    cfg.MODEL.MASK_FORMER.TEST.INSTANCE_ON = True
    cfg.INPUT.FORMAT = "RGB"
    return cfg


def model(cfg: CfgNode) -> kMaXDeepLab:
    torch.manual_seed(0)
    return build_model(cfg).eval()


@torch.no_grad()
def test_views_of_an_image_are_averaged() -> None:
    whole = model(configuration())
    tta = SegmentorWithTTA(whole, min_sizes=[33, 49], max_size=200, flip=True, image_format="RGB")
    image = (torch.rand(3, 40, 60) * 255).byte()
    (found,) = tta([{"image": image, "height": 40, "width": 60}])
    assert found["sem_seg"].shape == (7, 40, 60)
    assert found["instances"].pred_masks.shape[1:] == (40, 60)
    views = []
    for side in (33, 49):
        view = nn.functional.interpolate(image[None].float(), scale_factor=side / 40)[0]
        views.append(whole([{"image": view, "height": 40, "width": 60}])[0]["sem_seg"])
    assert torch.isfinite(found["sem_seg"]).all()
    assert (found["sem_seg"] - (views[0] + views[1]) / 2).abs().max() < 0.1  # mirrored ones differ a little


def test_a_folder_predicts(tmp_path: Path) -> None:
    cfg = configuration()
    cfg.DATASETS.TEST = ["kmax_test"]
    MetadataCatalog.get("kmax_test").set(stuff_classes=[f"class {index}" for index in range(7)])
    (tmp_path / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model(cfg).state_dict()}, tmp_path / "model_final.pth")
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    result = Predictor(str(tmp_path))(image)
    assert result.semantic.shape == (50, 70)


def test_start_values_are_the_published_ones() -> None:
    """Normal ones are cut at two deviations, which leaves 0.88 of them."""
    cfg = kmax(HIDDEN_DIM=128, NUM_OBJECT_QUERIES=50)
    cfg.MODEL.KMAX_DEEPLAB.PIXEL_DEC.DEC_CHANNELS = [64, 32, 32, 32]
    head = model(cfg).sem_seg_head

    def deviation(name: str) -> float:
        weight = head.get_parameter(name)
        assert weight.abs().max() <= 2.3 * weight.std()
        return float(weight.detach().std()) / 0.88

    layer, last = "predictor._kmax_transformer_layers.0.", "predictor._predcitor."
    assert deviation(f"{layer}_query_conv1_bn_act.conv.weight") == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert deviation(f"{layer}_query_qkv_conv_bn.conv.weight") == pytest.approx(128**-0.5, rel=0.05)
    assert deviation(f"{layer}_pixel_v_conv_bn.conv.weight") == pytest.approx(128**-0.5, rel=0.05)
    assert deviation(f"{last}_pixel_space_head_last_convbn.conv.weight") == pytest.approx(0.01, rel=0.1)
    assert deviation(f"{last}_transformer_class_head.conv.weight") == pytest.approx(0.01, rel=0.1)
    assert deviation("predictor._cluster_centers.weight") == pytest.approx(1, rel=0.05)
    three = "pixel_decoder._stages.2._blocks.0._conv2_bn_act.conv.weight"  # whatever the kernel's size
    assert deviation(three) == pytest.approx((2 / 32) ** 0.5, rel=0.05)
    attention = next(module for module in head.modules() if isinstance(module, AxialAttention))
    qkv = attention.qkv_transform.conv.weight
    assert float(qkv.detach().std()) / 0.88 == pytest.approx(qkv.shape[1] ** -0.5, rel=0.05)
    norms = [(name, module) for name, module in head.named_modules() if isinstance(module, BatchNorm)]
    zeros = {name.split(".")[-2] for name, module in norms if not module.weight.any()}
    assert zeros == {"_conv3_bn", "_query_conv3_bn", "_query_ffn_conv2_bn", "_kmeans_query_conv3_bn"}
    assert head.get_parameter(f"{last}_pixel_space_mask_batch_norm.weight").item() == pytest.approx(0.1)
    assert not any(p.any() for name, p in head.named_parameters() if name.endswith("bias"))


def test_statistics_can_be_measured_after_a_training() -> None:
    """Detectron2's PreciseBN, whose hook leaves layers no argument but the first by place."""
    network = model(configuration()).train()
    instances = Instances((32, 32), gt_classes=torch.tensor([0]), gt_masks=BitMasks(torch.ones(1, 32, 32).bool()))
    batch = [{"image": torch.rand(3, 32, 32) * 255, "instances": instances}] * 2
    norms = [module for module in network.modules() if isinstance(module, MaskNorm)]
    assert len(norms) > 1
    for norm in norms:
        nn.init.constant_(norm.running_var, 1e6)
    update_bn_stats(network, iter([batch] * 2), 2)
    assert all(norm.running_var.item() < 1e3 for norm in norms)
