"""A meta-architecture around any network: images and clips, targets, settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.structures import BitMasks, Instances
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.meta_arch import PredictsMasks, SegmentationModel, unwrapped
from mask2former.modeling.postprocess import PostProcessing
from mask2former.structures import Activation, DenseMasks, MaskPrediction, Masks, MaskTargets

CLASSES, QUERIES = 3, 5
SETTINGS = PostProcessing(panoptic_on=True, instance_on=True, things=frozenset([0, 1]), object_mask_threshold=0.0)


class EncoderOnly(SegmentationModel):
    """No backbone and no head: one convolution gives the masks of all frames, their mean the classes of a clip."""

    def __init__(self, activation: Activation = "sigmoid", **arguments: Any) -> None:
        super().__init__(
            pixel_mean=[100.0] * 3, pixel_std=[50.0] * 3, size_divisibility=8, post_processing=SETTINGS, **arguments
        )
        self.masks = nn.Conv2d(3, QUERIES, 4, stride=4)
        self.classes = nn.Linear(QUERIES, QUERIES * (CLASSES + 1))
        self.activation = activation

    def network(self, images: Tensor, num_frames: int = 1) -> MaskPrediction:
        masks = self.masks(images).unflatten(0, (-1, num_frames)).transpose(1, 2)
        classes = self.classes(masks.mean((2, 3, 4))).unflatten(1, (QUERIES, -1))
        return MaskPrediction(classes, DenseMasks(masks, self.activation))


class Keep(nn.Module):
    """A criterion that keeps what it gets."""

    def forward(self, prediction: MaskPrediction, targets: list[MaskTargets]) -> dict[str, Tensor]:
        self.seen = prediction, targets
        return {"loss": prediction.class_logits.sum()}


def clip(frames: int, height: int = 20, width: int = 30) -> list[Tensor]:
    return [torch.randint(0, 256, (3, height, width), dtype=torch.uint8) for _ in range(frames)]


def objects(masks: Tensor, bits: bool = False) -> Instances:
    classes = torch.arange(len(masks)) % CLASSES
    return Instances(tuple(masks.shape[-2:]), gt_classes=classes, gt_masks=BitMasks(masks) if bits else masks)


def test_it_is_what_others_ask_for() -> None:
    model = EncoderOnly(criterion=Keep())
    assert isinstance(model, PredictsMasks) and not isinstance(nn.Identity(), PredictsMasks)
    assert unwrapped(model) is model


@torch.no_grad()
def test_frames_of_a_clip_are_seen_and_drawn_each() -> None:
    model = EncoderOnly(criterion=Keep()).eval()
    first, second = clip(3), clip(3, 16, 24)
    results = model([{"image": first}, {"image": second, "height": 33, "width": 47}])
    assert [len(result["frames"]) for result in results] == [3, 3]
    prediction, batch = model.predict_raw([{"image": first}, {"image": second}])
    assert batch.num_frames == 3 and batch.padded_size == (24, 32)
    logits = F.interpolate(prediction.masks.logits(0).flatten(0, 1)[None], batch.padded_size, mode="bilinear")
    expected = torch.einsum(
        "qk,qthw->tkhw",
        prediction.class_logits[0].softmax(-1)[:, :-1],
        logits[0].unflatten(0, (QUERIES, 3)).sigmoid()[..., :20, :30],
    )
    for frame, result in zip(expected, results[0]["frames"], strict=True):
        torch.testing.assert_close(result["sem_seg"], frame, atol=1e-5, rtol=1e-5)
    assert results[1]["frames"][2]["panoptic_seg"][0].shape == (33, 47)


@torch.no_grad()
def test_a_clip_of_one_frame_is_an_image() -> None:
    model = EncoderOnly(criterion=Keep()).eval()
    (image,) = clip(1)
    (of_clip,), (of_image,) = model([{"image": [image]}]), model([{"image": image}])
    torch.testing.assert_close(of_clip["frames"][0]["sem_seg"], of_image["sem_seg"])


@pytest.mark.parametrize("bits", [False, True])
@pytest.mark.parametrize("frames", [1, 2])
def test_targets_are_padded_and_keep_their_frames(frames: int, bits: bool) -> None:
    criterion = Keep()
    model = EncoderOnly(criterion=criterion).train()
    masks = torch.rand(2, frames, 20, 30) > 0.5
    images, given = clip(frames), [objects(masks[:, t], bits) for t in range(frames)]
    extras = {"void": torch.rand(frames, 20, 30) > 0.5, "semantic": torch.randint(0, CLASSES, (frames, 20, 30))}
    if frames == 1:
        images, given = images[0], given[0]
        extras = {name: value[0] for name, value in extras.items()}
    model([{"image": images, "instances": given, **extras}])
    prediction, (target,) = criterion.seen
    assert prediction.masks.logits().shape == (1, QUERIES, frames, 6, 8)
    assert target.masks.shape == (2, frames, 24, 32) and target.masks.dtype == torch.bool
    assert torch.equal(target.masks[..., :20, :30], masks)
    assert not target.masks[..., 20:, :].any() and not target.masks[..., 30:].any()
    assert target.void is not None and target.void[..., 20:, :].all() and target.void[..., 30:].all()
    assert target.semantic is not None and (target.semantic[..., 20:, :] == -1).all()
    assert torch.equal(target.void[..., :20, :30], extras["void"].view(frames, 20, 30))


def test_clips_have_to_be_alike() -> None:
    model = EncoderOnly(criterion=Keep()).eval()
    with pytest.raises(ValueError, match=r"same number of frames; found \[2, 3\]"):
        model([{"image": clip(2)}, {"image": clip(3)}])
    with pytest.raises(ValueError, match="images or clips, not both"):
        model([{"image": clip(2)}, {"image": clip(1)[0]}])


@pytest.mark.parametrize("rows", [1, 7])
@torch.no_grad()
def test_masks_that_exclude_each_other(rows: int) -> None:
    """Their probabilities are the softmax over all queries of the resized logits, whichever queries are asked for."""
    model = EncoderOnly("softmax", criterion=Keep()).eval()
    (image,) = clip(1)
    prediction, batch = model.predict_raw([{"image": image}])
    masks: Masks = prediction.masks
    whole = F.interpolate(masks.logits()[:, :, 0], batch.padded_size, mode="bilinear")[0, :, :20, :30].softmax(0)
    ((_, source),) = model.predict([{"image": image}])
    asked = torch.tensor([3, 1])
    found = torch.cat([source.rows(asked, y, min(y + rows, 20)) for y in range(0, 20, rows)], dim=1)
    torch.testing.assert_close(found.sigmoid(), whole[asked], atol=1e-5, rtol=1e-4)
    (result,) = model([{"image": image}])
    probability = prediction.class_logits[0].softmax(-1)[:, :-1]
    torch.testing.assert_close(result["sem_seg"], torch.einsum("qk,qhw->khw", probability, whole), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_name_the_image(frames: int, value: float) -> None:
    """They would give empty results, which score 0 without a word."""
    model = EncoderOnly(criterion=Keep()).eval()
    batch: list[dict[str, Any]] = [
        {"image": clip(frames) if frames > 1 else clip(1)[0], "file_name": f"{name}.png"} for name in "ab"
    ]
    assert len(model(batch)) == 2
    for frame in batch[1]["image"] if frames > 1 else [batch[1]["image"]]:
        frame.fill_(255)
    inputs = model.classes.register_forward_pre_hook(
        lambda _, x: (torch.where(x[0].isclose(x[0][-1:]), value, x[0]) if len(x[0]) > 1 else x[0],)
    )
    with pytest.raises(ValueError, match=r"b\.png: the network's class logits are not finite"):
        model(batch)
    inputs.remove()
    with torch.no_grad():
        model.classes.bias[0] = value
    with pytest.raises(ValueError, match=r"a\.png: .* Usual reasons: weights with NaN"):
        model(batch)
    del batch[0]["file_name"]
    with pytest.raises(ValueError, match="image 0 of the batch"):
        model(batch)
