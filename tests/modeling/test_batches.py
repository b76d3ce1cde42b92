"""Images of different sizes as one batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from torch.nn import functional as F

from mask2former.config import load_config
from mask2former.data import register_all
from mask2former.modeling.meta_arch import MaskFormer, WithSettings


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
def test_labels_in_place_of_scores(model: MaskFormer, before: bool) -> None:
    settings = replace(model.post_processing, resize_before_semantic=before)
    inputs = [{"image": torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8), "height": 100, "width": 150}]
    scores = WithSettings(model, settings)(inputs)[0]
    labels = WithSettings(model, replace(settings, semantic_labels=True))(inputs)[0]
    assert "sem_seg" not in labels and labels["sem_seg_labels"].dtype == torch.int16
    assert torch.equal(labels["sem_seg_labels"].long(), scores["sem_seg"].argmax(dim=0))
    assert torch.equal(labels["panoptic_seg"][0], scores["panoptic_seg"][0])


def test_other_settings_leave_the_model_as_it_is(model: MaskFormer) -> None:
    before = model.post_processing
    other = WithSettings(model, replace(before, semantic_on=False, instance_on=False))
    inputs = [{"image": torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)}]
    with torch.no_grad():
        assert set(other(inputs)[0]) == {"panoptic_seg"}
        assert set(model(inputs)[0]) == {"sem_seg", "panoptic_seg", "instances"}
    assert model.post_processing is before and other.training == model.training
    assert not [name for name in other.state_dict() if not name.startswith("model.")]


def test_attributes_of_the_published_class(model: MaskFormer) -> None:
    """They are read and set as people do, and act."""
    before = model.post_processing
    try:
        model.semantic_on, model.panoptic_on, model.instance_on = False, False, True
        model.test_topk_per_image, model.object_mask_threshold, model.overlap_threshold = 3, 0.5, 0.25
        (result,) = model([{"image": torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)}])
        assert set(result) == {"instances"} and len(result["instances"]) == 3
        assert (model.object_mask_threshold, model.overlap_threshold, model.instance_on) == (0.5, 0.25, True)
        raw, _ = model.predict_raw([{"image": torch.zeros(3, 64, 96, dtype=torch.uint8)}])
        assert model.num_queries == raw.class_logits.shape[1]
        assert model.num_classes == model.sem_seg_head.predictor.class_embed.out_features - 1
        assert model.size_divisibility == 32 and model.metadata.thing_classes
        assert model.backbone.output_shape() and model.criterion.matcher
    finally:
        model.post_processing = before
