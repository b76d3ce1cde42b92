"""MaX-DeepLab with what the house has for every model: programs, views, a predictor, TensorFlow's files."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from small_models import max_deeplab

from mask2former import Predictor
from mask2former.checkpoint.weights_io import read
from mask2former.evaluation.tta import SegmentorWithTTA
from mask2former.export import ExportedNetwork, export, load
from mask2former.export.check import compare
from mask2former.modeling.max_deeplab import MaXDeepLab


def model(cfg: CfgNode) -> MaXDeepLab:
    torch.manual_seed(0)
    return build_model(cfg).eval()


def test_program_has_the_logits_of_pytorch(tmp_path: Path) -> None:
    network, file = ExportedNetwork(model(max_deeplab()), "logits"), tmp_path / "program.pt2"
    export(network, file, {"results": "logits"}, portable=True)
    for row in compare(network, load(file)[0], sizes=((64, 96), (97, 70))):
        assert row.difference is not None and row.difference < 1e-4


@torch.no_grad()
def test_views_of_an_image_are_averaged() -> None:
    tta = SegmentorWithTTA(model(max_deeplab()), min_sizes=[33, 49], max_size=200, flip=True, image_format="RGB")
    image = (torch.rand(3, 40, 60) * 255).byte()
    (found,) = tta([{"image": image, "height": 40, "width": 60}])
    assert found["sem_seg"].shape == (7, 40, 60) and found["sem_seg"].isfinite().all()


def test_a_folder_predicts(tmp_path: Path) -> None:
    cfg = max_deeplab()
    cfg.INPUT.FORMAT, cfg.DATASETS.TEST = "RGB", ["max_deeplab_test"]
    MetadataCatalog.get("max_deeplab_test").set(stuff_classes=[f"class {index}" for index in range(7)])
    (tmp_path / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model(cfg).state_dict()}, tmp_path / "model_final.pth")
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    assert Predictor(str(tmp_path))(image).semantic.shape == (50, 70)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed")
def test_files_of_tensorflow_say_what_they_need() -> None:
    with pytest.raises(ImportError, match=r"ckpt-1.index is a checkpoint of TensorFlow.*pip install tensorflow-cpu"):
        read("ckpt-1.index")
