"""Images of different sizes as one batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from torch.nn import functional as F

from mask2former.config import load_config
from mask2former.data import register_all
from mask2former.modeling.meta_arch.mask_former import MaskFormer, predict_labels_only


@pytest.fixture(scope="module")
def model() -> MaskFormer:
    register_all("datasets")
    torch.manual_seed(0)
    cfg = load_config(str(Path(__file__).parents[2] / "configs" / "quickstart" / "panoptic.yaml"))
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
    model.object_mask_threshold, model.overlap_threshold = 0.0, 0.0
    return model


@torch.no_grad()
def test_each_is_as_alone_on_the_same_padding(model: MaskFormer) -> None:
    """Padding is seen by the network, as published; so alone means on the same canvas, cropped afterwards."""
    sizes = [(64, 96), (96, 64), (70, 50)]
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    together = model([{"image": image} for image in images])
    for image, (height, width), result in zip(images, sizes, together, strict=True):
        canvas = model.pixel_mean.expand(3, 96, 96).clone()  # padding is zero once it is normalised
        canvas[:, :height, :width] = image
        alone = model([{"image": canvas}])[0]
        assert result["sem_seg"].shape[1:] == result["panoptic_seg"][0].shape == (height, width)
        assert result["instances"].pred_masks.shape[1:] == (height, width)
        expected = alone["sem_seg"][:, :height, :width]
        assert expected.std() > 0
        torch.testing.assert_close(result["sem_seg"], expected, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_results_have_the_sizes_asked_for(model: MaskFormer) -> None:
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    small, large = model([{"image": image}, {"image": image, "height": 100, "width": 150}])
    assert small["sem_seg"].shape[1:] == (64, 96) and large["panoptic_seg"][0].shape == (100, 150)
    resized = F.interpolate(small["sem_seg"][None], (100, 150), mode="bilinear")[0]
    assert (large["sem_seg"] - resized).abs().mean() < 0.1 * resized.std()


@torch.no_grad()
@pytest.mark.parametrize("before", [True, False])
def test_labels_in_place_of_scores(model: MaskFormer, monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    monkeypatch.setattr(model, "resize_before_semantic", before)
    inputs = [{"image": torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8), "height": 100, "width": 150}]
    scores = model(inputs)[0]
    with predict_labels_only(model):
        labels = model(inputs)[0]
    assert torch.equal(labels["sem_seg"].long(), scores["sem_seg"].argmax(dim=0))
    assert torch.equal(labels["panoptic_seg"][0], scores["panoptic_seg"][0])
    assert model(inputs)[0]["sem_seg"].shape == scores["sem_seg"].shape  # as ever afterwards
    other = torch.nn.Identity()
    with predict_labels_only(other):
        assert other(3) == 3
