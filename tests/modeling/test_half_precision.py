"""Models moved whole to half precision, as people do for inference, on any processor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances
from torch import nn

from mask2former.config import load_config
from mask2former.data import register_all
from mask2former.modeling import LocatedQueryDecoder

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = ["quickstart/panoptic", "quickstart/maskformer", "quickstart/per_pixel_plus", "coco/panoptic/swin"]
# A rounding step is 2^-8 in bfloat16, 2^-11 in float16; some twenty layers add theirs up.
TOLERANCES = {torch.bfloat16: 0.06, torch.float16: 0.01}
SMALL = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "20"]


def build(name: str, tmp_path: Path) -> nn.Module:
    register_all(str(tmp_path))
    return build_model(load_config(str(CONFIGS / f"{name}.yaml"), SMALL)).eval()


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_same_scores(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = build(name, tmp_path)
    if isinstance(places := getattr(model.sem_seg_head, "predictor", None), LocatedQueryDecoder):
        places.place[-1].weight.data.mul_(1000)  # of almost equal places, rounding would choose others
    image = (torch.rand(3, 64, 96) * 255).byte()
    (expected,) = model([{"image": image}])
    (found,) = model.to(dtype)([{"image": image}])
    scores, exact = found["sem_seg"], expected["sem_seg"]
    assert scores.dtype == torch.float32  # what is compared and scored is float32
    assert (scores - exact).abs().max() < TOLERANCES[dtype] * exact.abs().max()
    if "instances" in expected:
        assert found["instances"].scores.dtype == torch.float32


@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_images_are_normalised_in_single_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    model = build("quickstart/panoptic", tmp_path)
    mean, std = model.pixel_mean.clone(), model.pixel_std.clone()
    for moved in (model.to(dtype), model.float(), model.to("cpu", dtype)):
        assert torch.equal(moved.pixel_mean, mean) and torch.equal(moved.pixel_std, std)
    assert model.dtype == dtype
    assert model.to("meta").pixel_mean.is_meta


@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_training_says_to_use_autocast(dtype: torch.dtype, tmp_path: Path) -> None:
    model = build("quickstart/panoptic", tmp_path).to(dtype).train()
    instances = Instances((64, 96), gt_classes=torch.tensor([0]), gt_masks=BitMasks(torch.ones(1, 64, 96)))
    with pytest.raises(ValueError, match=r"SOLVER\.AMP\.ENABLED True, or torch\.autocast"):
        model([{"image": torch.zeros(3, 64, 96), "instances": instances}])
