"""Queries that start from places: where they start, what their masks gain, and what teaches them."""

from __future__ import annotations

import math

import pytest
import torch
from oracles import randomise
from small_models import configuration
from torch import Tensor

from mask2former.modeling.losses.places import PlaceLoss
from mask2former.modeling.transformer_decoder import LocatedQueryDecoder, MultiScaleMaskedTransformerDecoder
from mask2former.structures import PLACES, MaskPrediction, MaskTargets

SIZES = [(2, 3), (4, 6), (8, 12)]
MASK_SIZE = (16, 24)
OPTIONS = {"num_classes": 3, "hidden_dim": 8, "num_queries": 2, "num_heads": 2, "dim_feedforward": 16}
OPTIONS |= {"num_layers": 3, "pre_norm": False, "mask_dim": 4, "enforce_input_project": False}


def decoder(num_located: int = 5, std: float = 0.5) -> LocatedQueryDecoder:
    return randomise(LocatedQueryDecoder(8, num_located=num_located, **OPTIONS), std=std)


def inputs(images: int = 2) -> tuple[list[Tensor], Tensor]:
    levels = [torch.randn(images, 8, *size, dtype=torch.float64) for size in SIZES]
    return levels, torch.randn(images, 4, *MASK_SIZE, dtype=torch.float64)


def local_maxima(scores: Tensor) -> list[tuple[float, int]]:
    """Places [H, W] at least as good as their eight neighbours in one class of [K, H, W], best first."""
    found = {}
    for k, y, x in torch.cartesian_prod(*map(torch.arange, scores.shape)).tolist():
        around = scores[k, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        if scores[k, y, x] == around.max():
            place = y * scores.shape[2] + x
            found[place] = max(found.get(place, -math.inf), float(scores[k, y, x]))
    return sorted(((score, place) for place, score in found.items()), reverse=True)


@torch.no_grad()
def test_first_masks_are_those_of_learnt_queries_and_bumps_about_the_best_places() -> None:
    model = decoder()
    levels, mask_features = inputs()
    prediction = model(levels, mask_features)
    first, places = prediction.aux[0], prediction.extras[PLACES]
    assert first.class_logits.shape == (2, model.num_queries, 4)
    assert model.num_queries == 7
    for image in range(2):
        best = [place for _, place in local_maxima(places[image])[:5]]
        for row, place in enumerate(best, start=2):
            query = model.content(levels[-1][image].flatten(1)[:, place])
            x = model.norm(query)
            bump = model.bump(x)
            level, weights = bump[0], torch.nn.functional.softplus(bump[1:])
            y0, x0 = (place // 12 + 0.5) * 2, (place % 12 + 0.5) * 2  # centres, in cells of the mask features
            plain = torch.einsum("c,chw->hw", model.mask_embed(x), mask_features[image])
            expected = torch.empty(MASK_SIZE, dtype=torch.float64)
            for i in range(MASK_SIZE[0]):
                for j in range(MASK_SIZE[1]):
                    dy, dx = i + 0.5 - y0, j + 0.5 - x0
                    waves = [
                        math.cos(2 * math.pi / n * dy) + math.cos(2 * math.pi / n * dx) - 2
                        for n in (16, 32, 64, 128, 256, 512)
                    ]
                    expected[i, j] = plain[i, j] + level + sum(w * wave for w, wave in zip(weights, waves, strict=True))
            torch.testing.assert_close(first.masks.logits(image)[row, 0], expected, atol=1e-4, rtol=1e-4)
        for row in range(2):
            learnt = model.mask_embed(model.norm(model.query_feat.weight[row]))
            expected = torch.einsum("c,chw->hw", learnt, mask_features[image])
            torch.testing.assert_close(first.masks.logits(image)[row, 0], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_without_located_queries_to_listen_to_the_learnt_ones_are_the_base_class() -> None:
    """Its layers are the base class's: queries of which all attend to themselves alone give the same predictions."""
    model = decoder()
    base = MultiScaleMaskedTransformerDecoder(8, **OPTIONS).double()
    base.load_state_dict({name: x for name, x in model.state_dict().items() if name in base.state_dict()})
    levels, mask_features = inputs()
    for layer in [*model.layers, *base.layers]:  # self-attention that gives nothing
        for name, parameter in layer.self_attention.attention.named_parameters():
            if "out_proj" in name:
                parameter.zero_()
    found, expected = model(levels, mask_features), base(levels, mask_features)
    torch.testing.assert_close(found.class_logits[:, :2], expected.class_logits)
    torch.testing.assert_close(found.masks.logits()[:, :2], expected.masks.logits())


def test_few_places_give_fewer_queries() -> None:
    prediction = decoder(num_located=200)(*inputs())
    assert prediction.class_logits.shape[1] == 2 + 8 * 12


@torch.no_grad()
def test_repeated_frames_have_the_masks_of_the_image() -> None:
    model = decoder()
    levels, mask_features = inputs()
    image = model(levels, mask_features)
    clip = model([x.repeat_interleave(3, 0) for x in levels], mask_features.repeat_interleave(3, 0), 3)
    assert torch.equal(clip.extras[PLACES], image.extras[PLACES].repeat_interleave(3, 0))
    for of_clip, of_image in zip([*clip.aux, clip], [*image.aux, image], strict=True):
        torch.testing.assert_close(of_clip.class_logits, of_image.class_logits)
        torch.testing.assert_close(of_clip.masks.logits(), of_image.masks.logits().expand(-1, -1, 3, -1, -1))


@torch.no_grad()
def test_a_clips_places_are_the_best_over_its_frames_with_the_content_of_the_surest() -> None:
    """Compute first masks of two clips of three frames: looks of the place in its frame, one bump in all frames."""
    model = decoder()
    levels, mask_features = inputs(6)
    prediction = model(levels, mask_features, 3)
    first = prediction.aux[0].masks
    places = prediction.extras[PLACES].view(2, 3, 3, 8, 12)
    rows, columns = ((torch.arange(n, dtype=torch.float64) + 0.5) for n in MASK_SIZE)
    frames_used = set()
    for clip in range(2):
        best = [place for _, place in local_maxima(places[clip].amax(0))[:5]]
        for row, place in enumerate(best, start=2):
            y0, x0 = place // 12, place % 12
            frame = max(range(3), key=lambda t: float(places[clip, t, :, y0, x0].max()))
            frames_used.add(frame)
            x = model.norm(model.content(levels[-1][3 * clip + frame][:, y0, x0]))
            predicted = model.bump(x)
            expected = torch.einsum("c,tchw->thw", model.mask_embed(x), mask_features[3 * clip : 3 * clip + 3])
            for n, weight in zip((16, 32, 64, 128, 256, 512), torch.nn.functional.softplus(predicted[1:]), strict=True):
                wave_y = torch.cos(2 * math.pi / n * (rows - 2 * (y0 + 0.5)))[:, None]
                expected += weight * (wave_y + torch.cos(2 * math.pi / n * (columns - 2 * (x0 + 0.5))) - 2)
            torch.testing.assert_close(first.logits(clip)[row], expected + predicted[0], atol=1e-4, rtol=1e-4)
    assert len(frames_used) > 1


def test_clips_teach_all_parameters() -> None:
    model = decoder()
    levels, mask_features = inputs(4)
    prediction = model(levels, mask_features, 2)
    masks = torch.zeros(1, 2, 64, 96, dtype=torch.bool)
    masks[:, :, 8:24, 8:24] = True
    loss = PlaceLoss(weight=1.0)([prediction], [MaskTargets(torch.zeros(1, dtype=torch.long), masks)] * 2, [])
    total = loss["loss_place"]
    for layer in [*prediction.aux, prediction]:
        total = total + layer.class_logits.square().sum() + layer.masks.logits().square().mean()
    total.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


@pytest.mark.parametrize(
    ("located", "terms", "message"),
    [(0, ["ClassLoss", "PlaceLoss"], "needs at least 1"), (5, ["ClassLoss"], "LOSS_TERMS has to name it")],
)
def test_settings_under_which_places_are_not_learnt_are_refused(located: int, terms: list[str], message: str) -> None:
    cfg = configuration()
    cfg.MODEL.MASK_FORMER.NUM_LOCATED_QUERIES, cfg.MODEL.MASK_FORMER.LOSS_TERMS = located, terms
    with pytest.raises(ValueError, match=message):
        LocatedQueryDecoder(cfg, 32)


def targets_of(*boxes: tuple[int, int, int, int, int]) -> MaskTargets:
    """Targets (class, top, left, bottom, right) in an image of 64x96."""
    masks = torch.zeros(len(boxes), 1, 64, 96, dtype=torch.bool)
    for mask, (_, top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[0, top:bottom, left:right] = True
    return MaskTargets(torch.tensor([box[0] for box in boxes], dtype=torch.long), masks)


def loss_of(logits: Tensor, *targets: MaskTargets) -> float:
    prediction = MaskPrediction(torch.zeros(len(logits), 1, 4), None, extras={PLACES: logits})  # type: ignore[arg-type]
    return float(PlaceLoss(weight=1.0)([prediction], targets, [])["loss_place"])


def test_place_loss_is_the_focal_loss_with_the_centres_right() -> None:
    """Cells are 8x8 pixels. One object spans 3x3 of them, and one is smaller than a cell."""
    logits = torch.full((1, 3, 8, 12), -1.0)
    targets = targets_of((1, 8, 16, 32, 40), (2, 41, 51, 44, 53))
    p = 1 / (1 + math.exp(1))
    negatives = 3 * 8 * 12 - 2
    expected = (2 * 0.25 * (1 - p) ** 2 * -math.log(p) + negatives * 0.75 * p**2 * -math.log(1 - p)) / 2
    assert loss_of(logits, targets) == pytest.approx(expected, rel=1e-5)
    for place, gain in (((1, 2, 3), True), ((2, 5, 6), True), ((0, 2, 3), False), ((1, 1, 2), False)):
        better = logits.clone()
        better[(0, *place)] += 0.1
        assert (loss_of(better, targets) < expected) == gain, place


def test_a_sure_place_off_the_centre_stays_right() -> None:
    logits = torch.full((1, 3, 8, 12), -4.0)
    logits[0, 1, 2, 4] = 4.0  # one cell right of the centre
    surer = logits.clone()
    surer[0, 1, 2, 4] = 5.0
    targets = targets_of((1, 8, 16, 32, 40))
    assert loss_of(surer, targets) < loss_of(logits, targets)


def test_images_without_objects_teach_that_no_place_has_one() -> None:
    logits = torch.zeros(2, 3, 8, 12)
    assert loss_of(logits, targets_of(), targets_of()) == pytest.approx(576 * 0.75 * 0.25 * math.log(2), rel=1e-5)


def test_each_frame_of_a_clip_is_taught_by_the_objects_that_it_shows() -> None:
    """Leave one of two objects out in the second frame, where the other one has moved; cells are 8x8 pixels."""
    logits = torch.full((2, 3, 8, 12), -1.0)
    frames = targets_of((1, 8, 16, 32, 40), (2, 41, 51, 44, 53)), targets_of((1, 8, 40, 32, 64), (2, 0, 0, 0, 0))
    clip = MaskTargets(frames[0].classes, torch.cat([frame.masks for frame in frames], 1))
    p = 1 / (1 + math.exp(1))
    negatives = 2 * 3 * 8 * 12 - 3
    expected = (3 * 0.25 * (1 - p) ** 2 * -math.log(p) + negatives * 0.75 * p**2 * -math.log(1 - p)) / 3
    assert loss_of(logits, clip) == pytest.approx(expected, rel=1e-5)
    for place, gain in (((0, 1, 2, 3), True), ((0, 2, 5, 6), True), ((1, 1, 2, 6), True), ((1, 2, 0, 0), False)):
        better = logits.clone()
        better[place] += 0.1
        assert (loss_of(better, clip) < expected) == gain, place


def test_an_object_that_is_not_shown_does_not_hide_another_at_the_first_place() -> None:
    shown = targets_of((1, 0, 0, 8, 8))
    both = targets_of((1, 0, 0, 8, 8), (1, 0, 0, 0, 0)), targets_of((1, 0, 0, 0, 0), (1, 0, 0, 8, 8))
    logits = torch.full((1, 3, 8, 12), -1.0)
    for targets in both:
        assert loss_of(logits, targets) == pytest.approx(loss_of(logits, shown), rel=1e-6)


def test_a_decoder_without_places_is_named() -> None:
    prediction = MaskPrediction(torch.zeros(1, 1, 4), None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="LocatedQueryDecoder"):
        PlaceLoss(weight=1.0)([prediction], [targets_of()], [])
