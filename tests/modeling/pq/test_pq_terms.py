"""Class, mask and mask-ID losses and the matching, against slow programs of their formulas, with gradients."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from detectron2.utils.events import EventStorage
from pq_oracle import Scene, best_total, class_loss, mask_id_loss, mask_loss, similarity
from pq_scenes import CLASSES, case, dense, gradients, leaves, prediction
from torch import Tensor

from mask2former.modeling.losses.pq_targets import on_grid
from mask2former.modeling.losses.pq_terms import MaskIDLoss, PQClassLoss, PQMaskLoss
from mask2former.modeling.losses.slot_masks import on_one_grid
from mask2former.modeling.matcher import HungarianMatcher
from mask2former.modeling.pq_criterion import PQCriterion
from mask2former.modeling.pq_matcher import PQMatcher
from mask2former.structures import PIXEL_EMBEDDING, DenseMasks, FactoredMasks, MaskPrediction, MaskTargets

SIZE = (5, 7)
NAMES = ("loss_ce", "loss_dice", "loss_mask")
KINDS = [  # targets, slots, share of pixels in no mask, share of crowd among them
    pytest.param(3, 6, 0.3, 0.0, id="void in no mask"),
    pytest.param(3, 6, 0.4, 0.5, id="crowd"),
    pytest.param(3, 6, 0.0, 0.0, id="no void"),
    pytest.param(5, 3, 0.3, 0.0, id="more masks than slots"),
    pytest.param(5, 3, 0.3, 0.5, id="more masks than slots, crowd"),
    pytest.param(0, 4, 0.0, 0.0, id="all void"),
]


def oracle(
    layers: list[MaskPrediction], scenes: list[Scene], matchings: list, share: bool, masking: bool, void_share: bool
) -> dict[str, Tensor]:
    """[L] losses of each name."""
    losses: dict[str, list[Tensor]] = {name: [] for name in NAMES}
    for index, layer in enumerate(layers):
        reference = layers[-1] if share else layer
        parts: dict[str, list[Tensor]] = {name: [] for name in NAMES}
        for image, (scene, (slots, chosen)) in enumerate(zip(scenes, matchings, strict=True)):
            matched = list(zip(slots[index].tolist(), chosen[index].tolist(), strict=True))
            scene = dataclasses.replace(scene, matched=matched)
            logits = layer.class_logits[image]
            log_p = logits - logits.exp().sum(-1, keepdim=True).log()
            weights = reference.class_logits[image].detach().softmax(-1)
            m, weighing = dense(layer, image, SIZE)[0], dense(reference, image, SIZE)[0]
            parts["loss_ce"].append(class_loss(scene, log_p, weighing, void_share=void_share))
            parts["loss_dice"].append(mask_loss(scene, m, weights, masking=masking))
            parts["loss_mask"].append(mask_id_loss(scene, m))
        for name, values in parts.items():
            losses[name].append(torch.stack([value.reshape(()) for value in values]).mean())
    return {name: torch.stack(values) for name, values in losses.items()}


@pytest.mark.parametrize(("count", "slots", "empty", "crowd"), KINDS)
@pytest.mark.parametrize("share", [True, False], ids=["last matching", "own matching"])
@pytest.mark.parametrize("whole", [True, False], ids=["a batch at once", "image by image"])
def test_terms_equal_their_formulas(
    count: int, slots: int, empty: float, crowd: float, share: bool, whole: bool
) -> None:
    """Compare both ways: small masks are brought to one grid for all terms, large ones stay factors."""
    generator = torch.Generator().manual_seed(count + slots)
    cases = [case(generator, n, SIZE, empty=empty, crowd=crowd) for n in (count, max(count - 1, 0))]
    targets, scenes = [one.target for one in cases], [one.scene for one in cases]
    layers = [prediction(generator, 2, slots, size) for size in ((2, 3), (3, 4), SIZE)]
    given = [on_one_grid(layer, SIZE) for layer in layers] if whole else layers
    assert all(isinstance(layer.masks, DenseMasks if whole else FactoredMasks) for layer in given)
    matchings = PQMatcher(share_final=share)(given, targets)
    masking, void_share = share, count != 3 or crowd > 0
    terms = [
        PQClassLoss(share_final=share, negative_weight="void_share" if void_share else "one"),
        PQMaskLoss(share_final=share, masking_void=masking),
        MaskIDLoss(),
    ]
    expected = oracle(layers, scenes, matchings, share, masking, void_share)
    for name, term in zip(NAMES, terms, strict=True):
        found = term(given, targets, matchings)
        assert list(found) == [name]
        torch.testing.assert_close(found[name], expected[name], atol=1e-9, rtol=1e-6)
        weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
        ours = gradients((weights * found[name]).sum(), leaves(layers))
        wanted = gradients((weights * expected[name]).sum(), leaves(layers))
        torch.testing.assert_close(ours, wanted, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize(("count", "slots", "empty", "crowd"), KINDS)
def test_matching_is_the_best(count: int, slots: int, empty: float, crowd: float) -> None:
    """Try all assignments one by one; all layers have the last one's, or each its own."""
    generator = torch.Generator().manual_seed(7)
    one = case(generator, count, SIZE, empty=empty, crowd=crowd)
    layers = [prediction(generator, 1, slots, size) for size in ((2, 3), SIZE)]
    for share in (True, False):
        ((rows, columns),) = PQMatcher(share_final=share)(layers, [one.target])
        assert rows.shape == columns.shape == (2, min(count, slots))
        for index, (own_rows, own_columns) in enumerate(zip(rows, columns, strict=True)):
            layer = layers[-1 if share else index]
            sim = similarity(one.scene, dense(layer, 0, SIZE)[0].detach(), layer.class_logits[0].detach().softmax(-1))
            torch.testing.assert_close(PQMatcher().similarity(layer, 0, one.target).detach(), sim)
            assert len(own_rows.unique()) == len(own_columns.unique()) == min(count, slots)
            assert float(sim[own_rows, own_columns].sum()) == pytest.approx(best_total(sim), rel=1e-6)


def test_similarities_that_are_not_finite_are_counted_and_matched_last() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = prediction(generator, 1, 4, SIZE, torch.float32)
    with torch.no_grad():
        layer.class_logits[0, 1] = float("nan")
    matcher = PQMatcher()
    with EventStorage() as storage:
        ((slots, _),) = matcher([layer], [case(generator, 3, SIZE).target])
        assert storage.latest()["matcher_nonfinite_costs"][0] == 3
    assert sorted(slots[0].tolist()) == [0, 2, 3] and matcher.nonfinite_costs == 3


def test_masks_that_overlap_share_a_pixel() -> None:
    """However many they are, the pixel is not void."""
    generator = torch.Generator().manual_seed(1)
    count = 12
    target = MaskTargets(torch.arange(count) % CLASSES, torch.zeros(count, 1, *SIZE, dtype=torch.bool))
    target.masks[:, 0, 0, 0] = True
    target.masks[torch.arange(count), 0, torch.arange(count) // 7 + 1, torch.arange(count) % 7] = True
    scene = Scene(35, [set(mask.nonzero()[:, 0].tolist()) for mask in target.masks.flatten(1)], target.classes.tolist())
    layer = prediction(generator, 1, 14, SIZE)
    matchings = PQMatcher()([layer], [target])
    expected = oracle([layer], [scene], matchings, True, True, True)
    for name, term in zip(NAMES, (PQClassLoss(), PQMaskLoss(), MaskIDLoss()), strict=True):
        torch.testing.assert_close(term([layer], [target], matchings)[name], expected[name])


def test_large_masks_and_half_precision_stay_factors() -> None:
    """Keep them: large ones would take memory, and products of half precision would be rounded."""
    generator = torch.Generator().manual_seed(4)
    layer = prediction(generator, 2, 6, (3, 4), torch.float32)
    small = on_one_grid(layer, SIZE)
    assert isinstance(small.masks, DenseMasks) and small.masks.align_corners and small.masks.activation == "softmax"
    assert small.extras[PIXEL_EMBEDDING].shape == (2, 4, 3, 4)
    assert on_one_grid(layer, (400, 400)) is layer
    half = prediction(generator, 2, 6, (3, 4), torch.bfloat16)
    assert on_one_grid(half, SIZE) is half
    with torch.autocast("cpu", torch.bfloat16):  # the criterion switches it off later, for the terms
        torch.testing.assert_close(on_one_grid(layer, SIZE).masks.features, small.masks.features, rtol=0, atol=0)
        mixed = dataclasses.replace(
            layer, masks=dataclasses.replace(layer.masks, mask_embed=layer.masks.mask_embed.bfloat16())
        )
        logits = on_one_grid(mixed, SIZE).masks.features
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, small.masks.features, rtol=2e-2, atol=5e-2)


def test_crowd_pixels_have_no_gradient_of_mask_identity() -> None:
    generator = torch.Generator().manual_seed(2)
    one = case(generator, 3, SIZE, empty=0.5, crowd=0.7)
    layer = prediction(generator, 1, 6, SIZE)
    assert isinstance(layer.masks, FactoredMasks)
    matchings = PQMatcher()([layer], [one.target])
    loss = MaskIDLoss()([layer], [one.target], matchings)["loss_mask"].sum()
    (gradient,) = torch.autograd.grad(loss, layer.masks.mask_features)
    outside = ~one.target.masks.any(0)
    assert one.target.void is not None and (outside & ~one.target.void).any()
    assert not gradient[0, :, outside].any() and gradient[0, :, ~outside].abs().sum(0).min() > 0


def test_targets_on_every_fourth_pixel() -> None:
    masks = torch.zeros(3, 1, 9, 10, dtype=torch.bool)
    masks[0, 0, :5] = True
    masks[1, 0, 5:8] = True  # between the rows 4 and 8
    masks[2, 0, 8] = True
    void = torch.zeros(1, 9, 10, dtype=torch.bool)
    void[0, 0, 0] = True
    grid = on_grid(MaskTargets(torch.tensor([4, 1, 2]), masks, void))
    assert grid.classes.tolist() == [4, 2] and grid.areas is not None and grid.areas.tolist() == [50, 10]
    rows = [[[False, True, True], [True] * 3, [False] * 3], [[False] * 3, [False] * 3, [True] * 3]]
    assert grid.masks[:, 0].tolist() == rows
    with pytest.raises(ValueError, match="clips of 2 frames"):
        on_grid(MaskTargets(torch.tensor([0]), torch.ones(1, 2, 4, 4, dtype=torch.bool)))


def test_criterion_names_layers_and_joins_strides() -> None:
    generator = torch.Generator().manual_seed(3)
    layers = [prediction(generator, 1, 6, size, torch.float32) for size in ((2, 2), (3, 3), (5, 5))]
    target = MaskTargets(torch.tensor([1, 2]), torch.zeros(2, 1, 17, 20, dtype=torch.bool))
    target.masks[0, 0, :9], target.masks[1, 0, 9:] = True, True
    whole = dataclasses.replace(layers[-1], aux=layers[:2])
    terms = [PQClassLoss(), PQMaskLoss(), MaskIDLoss()]
    losses = PQCriterion(matcher=PQMatcher(), terms=terms)(whole, [target])
    assert set(losses) == {name + suffix for name in NAMES for suffix in ("", "_0", "_1")}
    alone = PQCriterion(matcher=PQMatcher(), terms=terms, deep_supervision=False)(whole, [target])
    assert alone == {name: losses[name] for name in NAMES}
    grid = on_grid(target)
    direct = MaskIDLoss()(layers, [grid], PQMatcher()(layers, [grid]))["loss_mask"]
    assert [losses[f"loss_mask{suffix}"].item() for suffix in ("_0", "_1", "")] == direct.tolist()


def test_other_masks_and_keys_are_refused() -> None:
    layer = prediction(torch.Generator(), 1, 3, SIZE)
    assert isinstance(layer.masks, FactoredMasks)
    layer.masks.activation = "sigmoid"
    target = MaskTargets(torch.tensor([0]), torch.ones(1, 1, *SIZE, dtype=torch.bool))
    with pytest.raises(ValueError, match="PQMatcher compares masks that are a softmax"):
        PQMatcher()([layer], [target])
    layer.masks.activation = "softmax"
    with pytest.raises(ValueError, match="HungarianMatcher compares each mask by itself"):
        HungarianMatcher(class_weight=1.0, mask_weight=1.0, dice_weight=1.0, mask_loss=None)([layer], [target])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"MODEL\.PQ\.NEGATIVE_WEIGHT is 'paper'; choose from void_share, one"):
        PQClassLoss(negative_weight="paper")
