"""The clip model: its decoder, losses and results against slow formulas, and against the model of images."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances
from small_models import configuration
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling import MultiScaleMaskedTransformerDecoder, VideoMultiScaleMaskedTransformerDecoder
from mask2former.modeling.criterion import build_criterion
from mask2former.modeling.matcher import build_matcher
from mask2former.structures import DenseMasks, MaskPrediction, MaskTargets

C, Q, K = 16, 5, 3


def models(frames_tell: bool = True) -> tuple[nn.Module, nn.Module]:
    """The clip model and the image model with the same weights."""
    cfg = configuration()
    cfg.MODEL.MASK_FORMER.TEST.SEMANTIC_ON, cfg.MODEL.MASK_FORMER.TEST.INSTANCE_ON = False, True
    torch.manual_seed(0)
    image = build_model(cfg).eval()
    cfg.MODEL.META_ARCHITECTURE = "VideoMaskFormer"
    cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME = "VideoMultiScaleMaskedTransformerDecoder"
    clip = build_model(cfg).eval()
    clip.load_state_dict(image.state_dict())  # strict: the names are the same
    return clip, image


def clip_input(frames: int, size: tuple[int, int] = (50, 70)) -> dict[str, Any]:
    return {"image": [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for _ in range(frames)]}


def slow_position(channels: int, frames: int, height: int, width: int) -> Tensor:
    """The encoding [channels, T, H, W] as the report's code defines it, number by number."""

    def code(place: int, length: int, n: int) -> list[float]:
        e = 2 * math.pi * place / (length + 1e-6)
        angles = [e / 10000 ** (2 * (k // 2) / n) for k in range(n)]
        return [math.cos(a) if k % 2 else math.sin(a) for k, a in enumerate(angles)]

    result = torch.zeros(channels, frames, height, width)
    for t in range(frames):
        for y in range(height):
            for x in range(width):
                of_pixel = code(y + 1, height, channels // 2) + code(x + 1, width, channels // 2)
                of_frame = code(t + 1, frames, channels)
                result[:, t, y, x] = torch.tensor(of_pixel) + torch.tensor(of_frame)
    return result


def decoder(kind: type[nn.Module], **changes: Any) -> nn.Module:
    torch.manual_seed(1)
    return kind(
        C,
        num_classes=K,
        hidden_dim=C,
        num_queries=Q,
        num_heads=2,
        dim_feedforward=8,
        num_layers=3,
        pre_norm=False,
        mask_dim=C,
        enforce_input_project=False,
        **changes,
    ).eval()


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_decoder_is_that_of_images_over_frames_below_each_other(frames: int) -> None:
    """The frames stacked to one tall image, whose positions are the slow formula's; halving does not mix frames."""
    clip = decoder(VideoMultiScaleMaskedTransformerDecoder, encode_time=True)
    tall = decoder(MultiScaleMaskedTransformerDecoder)

    class Positions(nn.Module):
        def forward(self, size: tuple[int, int], num_frames: int, device: Any, dtype: Any) -> Tensor:
            assert num_frames == 1
            return slow_position(C, frames, size[0] // frames, size[1]).flatten(1, 2)[:, None]

    tall.position_encoding = Positions()
    levels = [torch.randn(frames, C, h, 2 * h) for h in (2, 4, 8)]
    mask_features = torch.randn(frames, C, 16, 32)

    def below(x: Tensor) -> Tensor:
        return x.transpose(0, 1).flatten(1, 2)[None]

    with torch.no_grad():
        ours = clip(levels, mask_features, frames)
        expected = tall([below(x) for x in levels], below(mask_features))
    for one, other in zip([*ours.aux, ours], [*expected.aux, expected], strict=True):
        torch.testing.assert_close(one.class_logits, other.class_logits, atol=1e-5, rtol=1e-4)
        stacked = other.masks.logits().squeeze(2).unflatten(2, (frames, -1))
        torch.testing.assert_close(one.masks.logits(), stacked, atol=1e-5, rtol=1e-4)


def test_one_frame_gives_what_the_image_model_predicts() -> None:
    clip, image = models()
    torch.manual_seed(2)
    inputs = clip_input(1, (45, 61))
    with torch.no_grad():
        ((ours, our_masks),) = clip.predict([inputs])
        ((theirs, their_masks),) = image.predict([{"image": inputs["image"][0]}])
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    queries = torch.arange(12)
    torch.testing.assert_close(our_masks(queries), their_masks(queries), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_results_are_those_of_resizing_all_masks(frames: int) -> None:
    """All queries' masks resized to the padded input, cut, and resized again, as the report describes inference."""
    clip, _ = models()
    torch.manual_seed(3)
    inputs = clip_input(frames, (50, 71)) | {"height": 33, "width": 40}
    with torch.no_grad():
        result = clip([inputs])
        prediction, batch = clip.predict_raw([inputs])
    probability = prediction.class_logits[0].softmax(-1)[:, :-1]
    logits = F.interpolate(prediction.masks.logits()[0], batch.padded_size, mode="bilinear", align_corners=False)
    logits = F.interpolate(logits[..., :50, :71], (33, 40), mode="bilinear", align_corners=False)
    best = sorted(((float(p), q, k) for q, row in enumerate(probability) for k, p in enumerate(row)), reverse=True)[:10]
    assert result["image_size"] == (33, 40) and len(result["pred_masks"]) == 10
    assert result["pred_scores"] == pytest.approx([score for score, *_ in best])
    for label, mask, (_, query, category) in zip(result["pred_labels"], result["pred_masks"], best, strict=True):
        assert label == category and mask.dtype == torch.bool and mask.shape == (frames, 33, 40)
        differ = mask != (logits[query] > 0)
        assert bool((logits[query][differ].abs() < 1e-3).all())  # where rounding decides


def test_several_clips_and_images() -> None:
    clip, _ = models()
    torch.manual_seed(4)
    both = [clip_input(2), clip_input(2)]
    with torch.no_grad():
        alone, together = clip(both[:1]), clip(both)
        image = clip([{"image": both[0]["image"][0]}])
    assert together[0]["pred_scores"] == pytest.approx(alone["pred_scores"], abs=1e-5)
    assert image[0]["instances"].has("pred_masks")
    with pytest.raises(ValueError, match="same number of frames"):
        clip([clip_input(2), clip_input(3)])


def test_matching_compares_whole_clips() -> None:
    cfg = configuration()
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, cfg.MODEL.MASK_FORMER.TRAIN_NUM_POINTS = K, 40
    former = cfg.MODEL.MASK_FORMER
    former.CLASS_WEIGHT, former.MASK_WEIGHT, former.DICE_WEIGHT = 2.0, 5.0, 5.0
    torch.manual_seed(5)
    logits, masks = torch.randn(1, Q, 2, 6, 8), torch.rand(4, 2, 12, 16) > 0.5
    prediction = MaskPrediction(torch.randn(1, Q, K + 1), DenseMasks(logits))
    target = MaskTargets(torch.tensor([0, 2, 1, 0]), masks)
    torch.manual_seed(6)
    (cost,) = build_matcher(cfg).cost([prediction], 0, target)
    torch.manual_seed(6)
    grid = (2 * torch.rand(40, 2) - 1)[None, :, None]
    probability = prediction.class_logits[0].softmax(-1)

    def sample(frames: Tensor) -> Tensor:  # [T, H, W] -> [T * P]
        return torch.cat([F.grid_sample(f[None, None], grid, align_corners=False).flatten() for f in frames])

    for q in range(Q):
        for n in range(4):
            x, m = sample(logits[0, q]), sample(masks[n].float())
            s = x.sigmoid()
            bce = F.binary_cross_entropy_with_logits(x, m)
            dice = 1 - (2 * (s * m).sum() + 1) / (s.sum() + m.sum() + 1)
            expected = -2 * probability[q, target.classes[n]] + 5 * bce + 5 * dice
            assert float(cost[q, n]) == pytest.approx(float(expected), abs=1e-4)


def test_loss_is_of_frames_and_counts_tracks() -> None:
    """Masks that are the same everywhere in a frame, compared at all pixels: sums over frames in plain numbers."""
    cfg = configuration()
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, cfg.MODEL.MASK_FORMER.MASK_LOSS = K, "focal"
    former = cfg.MODEL.MASK_FORMER
    former.CLASS_WEIGHT, former.MASK_WEIGHT, former.DICE_WEIGHT = 2.0, 5.0, 5.0
    values = torch.tensor([[3.0, 2.0, -1.0], [-2.0, -3.0, 4.0]])  # of two queries in three frames
    shown = torch.tensor([[True, True, False], [False, False, True]])
    logits = values[None, :, :, None, None].expand(1, 2, 3, 6, 8)
    masks = shown[:, :, None, None].expand(2, 3, 6, 8)
    prediction = MaskPrediction(torch.zeros(1, 2, K + 1), DenseMasks(logits))
    losses = build_criterion(cfg)(prediction, [MaskTargets(torch.tensor([0, 1]), masks)])
    focal, dice, n = 0.0, 0.0, 6 * 8
    for value, inside in zip(values.flatten().tolist(), shown.flatten().tolist(), strict=True):
        s = 1 / (1 + math.exp(-value))
        focal += -0.25 * (1 - s) ** 2 * math.log(s) if inside else -0.75 * s**2 * math.log(1 - s)
        dice += 1 - (2 * n * s * inside + 1) / (n * s + n * inside + 1)
    assert float(losses["loss_mask"]) == pytest.approx(5 * focal / 2, rel=1e-5)  # two tracks, not six masks
    assert float(losses["loss_dice"]) == pytest.approx(5 * dice / 2, rel=1e-5)
    assert float(losses["loss_ce"]) == pytest.approx(2 * math.log(K + 1), rel=1e-5)


def test_an_object_missing_in_the_last_frame_keeps_its_class() -> None:
    clip, _ = models()
    inputs = clip_input(2, (32, 32))
    masks = torch.zeros(3, 2, 32, 32, dtype=torch.bool)
    masks[0, 0, :9], masks[1, :, 9:20] = True, True  # the third is in no frame
    classes = torch.tensor([[4, 2, 7], [7, 2, 7]])  # as published mappers say: 7 of 7 classes where it is missing
    inputs["instances"] = [Instances((32, 32), gt_classes=classes[t], gt_masks=BitMasks(masks[:, t])) for t in range(2)]
    (target,) = clip.prepare_targets([inputs], clip.preprocess([inputs]))
    assert target.classes.tolist() == [4, 2]
    assert torch.equal(target.masks, masks[:2])
    losses = clip.train()([inputs])
    assert all(bool(loss.isfinite()) for loss in losses.values()) and "loss_dice_1" in losses
