"""SegViT and Shrunk against plain functions written from the formulas, which know only our parameters' names."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances
from segvit_models import configuration
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.structures import MaskPrediction

Weights = dict[str, Tensor]


def norm(x: Tensor, w: Weights, name: str, eps: float) -> Tensor:
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / (variance + eps).sqrt() * w[name + ".weight"] + w[name + ".bias"]


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[name + ".weight"].T + w[name + ".bias"]


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Head by head: the attended values [n, C], and the mean score before the softmax [n, L]."""
    parts, scores = [], []
    for qh, kh, vh in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
        score = qh @ kh.T / math.sqrt(qh.shape[-1])
        parts.append(score.softmax(-1) @ vh)
        scores.append(score)
    return torch.cat(parts, -1), sum(scores) / heads  # type: ignore[return-value]


def packed(query: Tensor, memory: Tensor, w: Weights, name: str, heads: int) -> Tensor:
    (wq, wk, wv), (bq, bk, bv) = w[name + ".in_proj_weight"].chunk(3), w[name + ".in_proj_bias"].chunk(3)
    attended, _ = attend(query @ wq.T + bq, memory @ wk.T + bk, memory @ wv.T + bv, heads)
    return linear(attended, w, name + ".out_proj")


def vit(image: Tensor, w: Weights, model: nn.Module, heads: int) -> dict[int, tuple[Tensor, tuple[int, int]]]:
    """Tokens [L, D] and grid after each block."""
    size = model.backbone.patch_size
    grid = (image.shape[1] // size, image.shape[2] // size)
    weight = w["backbone.patch_embed.proj.weight"].flatten(1)
    patches = [
        image[:, y * size : (y + 1) * size, x * size : (x + 1) * size].flatten()
        for y in range(grid[0])
        for x in range(grid[1])
    ]
    table = w["backbone.pos_embed"][0]
    side = round(math.sqrt(len(table)))
    table = F.interpolate(table.T.view(1, -1, side, side), grid, mode="bicubic", align_corners=False)[0].flatten(1).T
    x = torch.stack(patches) @ weight.T + w["backbone.patch_embed.proj.bias"] + table
    after = {}
    for index in range(len(model.backbone.blocks)):
        name = f"backbone.blocks.{index}."
        normed = norm(x, w, name + "norm1", 1e-6)
        q, k, v = linear(normed, w, name + "attn.qkv").chunk(3, -1)
        if index == model.backbone.shrink_block:
            keep = [y * grid[1] + x for y in range(0, grid[0], 2) for x in range(0, grid[1], 2)]
            q, x, grid = q[keep], x[keep], ((grid[0] + 1) // 2, (grid[1] + 1) // 2)
        x = x + linear(attend(q, k, v, heads)[0], w, name + "attn.proj")
        hidden = linear(norm(x, w, name + "norm2", 1e-6), w, name + "mlp.fc1")
        x = x + linear(hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))), w, name + "mlp.fc2")
        after[index] = (x, grid)
    return after


def feed_forward(x: Tensor, w: Weights, name: str) -> Tensor:
    return norm(x + linear(linear(x, w, name + ".linear1").relu(), w, name + ".linear2"), w, name + ".norm", 1e-5)


def atm_layer(q: Tensor, memory: Tensor, w: Weights, name: str, heads: int) -> tuple[Tensor, Tensor]:
    own = name + "self_attention"
    q = norm(q + packed(q, q, w, own + ".attention", heads), w, own + ".norm", 1e-5)
    own = name + "mask_attention."
    attended, score = attend(
        linear(q, w, own + "query"), linear(memory, w, own + "key"), linear(memory, w, own + "value"), heads
    )
    q = norm(q + linear(attended, w, own + "proj"), w, own + "norm", 1e-5)
    return feed_forward(q, w, name + "feed_forward"), score


def expected(model: nn.Module, image: Tensor, heads: int, layers: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Class logits [K, K + 1] and masks [K, h, w] of every prediction for a normalised image [3, H, W]."""
    w = dict(model.state_dict())
    after = vit(image, w, model, heads)
    pixels, predictor = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
    taps = [int(name.removeprefix("block")) for name in model.backbone.output_shape()]

    def projected(index: int, tap: int) -> Tensor:
        name = f"{pixels}projections.{index}."
        return norm(linear(after[tap][0], w, name + "linear"), w, name + "norm", 1e-5)

    classes, result, q = predictor + "class_embed", [], w[predictor + "query_embed.weight"]
    grid = after[taps[0]][1]
    if model.backbone.shrink_block < 0:
        mask: Any = 0.0
        for stage, tap in enumerate(reversed(taps)):
            memory = projected(stage, tap)
            for layer in range(layers):
                q, score = atm_layer(q, memory, w, f"{predictor}decoders.{stage}.{layer}.", heads)
            mask = mask + score
            result.append((linear(q, w, classes), mask.unflatten(1, grid)))
        return result
    table = w[pixels + "query_embed.weight"]
    side = round(math.sqrt(len(table)))
    x = F.interpolate(table.T.view(1, -1, side, side), grid, mode="bicubic", align_corners=False)[0].flatten(1).T
    for index, tap in enumerate(taps):
        memory = projected(index, tap)
        for layer in range(layers):
            name = f"{pixels}decoders.{index}.{layer}."
            own = name + "self_attention"
            x = norm(x + packed(x, x, w, own + ".attention", heads), w, own + ".norm", 1e-5)
            own = name + "cross_attention"
            x = norm(x + packed(x, memory, w, own + ".attention", heads), w, own + ".norm", 1e-5)
            x = feed_forward(x, w, name + "feed_forward")
    for layer in range(layers):
        q, score = atm_layer(q, x, w, f"{predictor}decoders.0.{layer}.", heads)
        result.append((linear(q, w, classes), score.unflatten(1, grid)))
    return result


def built(shrunk: bool, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(configuration(shrunk, MODEL__MASK_FORMER__DROPOUT=0.0, **changes))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    model.double().criterion.float()
    return model


def all_of(prediction: MaskPrediction) -> list[MaskPrediction]:
    return [*prediction.aux, prediction]


@pytest.mark.parametrize("shrunk", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (48, 80), (80, 112)])
@torch.no_grad()
def test_predictions_equal_the_formulas(shrunk: bool, size: tuple[int, int]) -> None:
    """On the table's grid and on odd ones, which need no padding."""
    model = built(shrunk)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    found = all_of(model.train().network(images))
    (last,) = all_of(model.eval().network(images))
    assert len(found) == 3
    assert len({id(x.masks.features) for x in found}) == 1, "losses sample shared features once"
    for image in range(2):
        reference = expected(model, images[image], heads=4)
        for ours, (logits, masks) in zip([*found, last], [*reference, reference[-1]], strict=True):
            torch.testing.assert_close(ours.class_logits[image], logits, atol=1e-7, rtol=1e-6)
            torch.testing.assert_close(ours.masks.logits(image)[:, 0], masks, atol=1e-7, rtol=1e-6)


def batch(size: int = 64) -> list[dict[str, Any]]:
    """Three semantic images; 255 on a stripe of the first, everywhere on the last."""
    generator = torch.Generator().manual_seed(1)
    inputs = []
    for classes in ([0, 2, 4], [1], []):
        labels = torch.full((size, size), 255)
        for index, label in enumerate(classes):
            labels[:, index * 20 : (index + 1) * 20] = label
        masks = torch.stack([labels == label for label in classes]) if classes else torch.zeros(0, size, size).bool()
        instances = Instances((size, size), gt_masks=BitMasks(masks), gt_classes=torch.tensor(classes).long())
        image = torch.rand(3, size, size, generator=generator) * 255
        inputs.append({"image": image, "instances": instances, "labels": labels})
    return inputs


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("shrunk", [False, True])
def test_losses_equal_the_formulas(shrunk: bool, background: bool) -> None:
    model = built(shrunk, MODEL__MASK_FORMER__UNLABELED_IS_BACKGROUND=background).train()
    inputs = batch()
    prediction, prepared = model.predict_raw(inputs)
    losses = model.criterion(prediction, model.prepare_targets(inputs, prepared))
    pairs = [(i, label) for i, x in enumerate(inputs) for label in x["labels"].unique().tolist() if label < 255]
    for index, layer in enumerate(all_of(prediction)):
        suffix = "" if index == 2 else f"_{index}"
        log = layer.class_logits.log_softmax(-1)
        weighted, weights = 0.0, 0.0
        for image in range(3):
            for query in range(5):
                there = (image, query) in pairs
                weight = 1.0 if there else 0.1
                weighted = weighted - weight * log[image, query, query if there else 5]
                weights += weight
        torch.testing.assert_close(losses["loss_ce" + suffix].double(), weighted / weights, atol=1e-5, rtol=1e-4)
        focal, dice = 0.0, 0.0
        for image, label in pairs:
            logits = layer.masks.logits(image)[label, 0]
            x = F.interpolate(logits[None, None], (64, 64), mode="bilinear", align_corners=False)[0, 0]
            labels = inputs[image]["labels"]
            counted = torch.ones_like(labels, dtype=torch.bool) if background else labels != 255
            p, t = x.sigmoid()[counted], (labels == label)[counted].double()
            costs = -0.25 * t * (1 - p) ** 2 * p.log() - 0.75 * (1 - t) * p**2 * (1 - p).log()
            focal = focal + costs.mean() * 20 / len(pairs)
            dice = dice + (1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)) / len(pairs)
        torch.testing.assert_close(losses["loss_mask" + suffix].double(), focal, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(losses["loss_dice" + suffix].double(), dice, atol=1e-5, rtol=1e-4)
    assert len(losses) == 9
    sum(losses.values()).backward()
    without = [name for name, x in model.named_parameters() if x.grad is None or not x.grad.isfinite().all()]
    zero = [name for name, x in model.named_parameters() if not name.endswith("key.bias") and not x.grad.any()]
    assert not without and not zero


@torch.no_grad()
def test_scores_equal_the_formula() -> None:
    """The sum over queries at the crop's size, and padding for images that are no multiple of 32 in the shrunk form."""
    model = built(True).eval()
    assert model.size_divisibility == 32
    image = torch.rand(3, 50, 70) * 255
    (result,) = model([{"image": image}])
    padded = F.pad((image.double() - 127.5) / 127.5, (0, 96 - 70, 0, 64 - 50))
    logits, masks = expected(model, padded, heads=4)[-1]
    up = F.interpolate(masks[None], (64, 96), mode="bilinear", align_corners=False)[0, :, :50, :70]
    scores = sum(logits.softmax(-1)[q, :5, None, None] * up[q].sigmoid() for q in range(5))
    torch.testing.assert_close(result["sem_seg"].double(), scores, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_levels_of_a_pyramid_are_added_at_the_finest() -> None:
    cfg = configuration(MODEL__VIT__SHRINK_BLOCK=2)  # the first tap has stride 16, the others 32
    model = build_model(cfg).train().double()
    prediction = model.network(torch.randn(1, 3, 64, 96, dtype=torch.float64))
    assert prediction.masks.size == (4, 6)
    first = prediction.aux[0].masks
    assert not first.mask_embed[..., 16:].any() and first.mask_embed[..., :16].any()


def test_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="takes single images; found clips of 2 frames"):
        built(False).network(torch.randn(2, 3, 64, 64, dtype=torch.float64), num_frames=2)


def test_two_masks_of_a_class_are_refused() -> None:
    model = built(False).float().train()
    inputs = batch()
    inputs[0]["instances"].gt_classes[1] = 0
    with pytest.raises(ValueError, match=r"at most one mask of each of these classes .* found masks of classes \[0, 0"):
        model(inputs)


def test_checkpointing_keeps_losses_and_gradients() -> None:
    inputs, gradients = batch(), []
    for parts in ([], ["backbone", "pixel_decoder", "transformer_decoder"]):
        model = built(True, MODEL__CHECKPOINT=parts).float().train()
        sum(model(inputs).values()).backward()
        gradients.append({name: x.grad for name, x in model.named_parameters()})
    for name, expected_gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected_gradient, msg=name)


@pytest.mark.parametrize(
    ("shrunk", "changes", "message"),
    [
        (True, {"MODEL__VIT__SHRINK_BLOCK": 6}, "SHRINK_BLOCK is 6"),
        (True, {"MODEL__VIT__POSITIONS": "rotary"}, "POSITIONS table, found rotary"),
        (False, {"MODEL__SEM_SEG_HEAD__CONVS_DIM": 32}, "CONVS_DIM is 32 and MODEL.MASK_FORMER.HIDDEN_DIM 16"),
        (False, {"MODEL__SEGVIT__LAYERS": 0}, "at least one layer"),
        (True, {"MODEL__MASK_FORMER__TEST__INSTANCE_ON": True}, "AttentionToMaskDecoder has one query for each class"),
        (False, {"MODEL__SEM_SEG_HEAD__IN_FEATURES": ["block1", "block2"]}, "IN_FEATURES names .*MODEL.VIT.OUT_BLOCKS"),
        (False, {"MODEL__SEM_SEG_HEAD__IN_FEATURES": []}, "IN_FEATURES is empty; name some of .'block1'"),
    ],
)
def test_faults_of_the_configuration(shrunk: bool, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(configuration(shrunk, **changes))


def test_decoder_and_pixel_decoder_have_to_suit_each_other() -> None:
    decoder = {"MODEL__MASK_FORMER__TRANSFORMER_DECODER_NAME": "AttentionToMaskDecoder"}
    model = build_model(configuration(False, **decoder))
    with pytest.raises(ValueError, match="attends to 1 levels, but the pixel decoder gives 3"):
        model.network(torch.randn(1, 3, 64, 64))


@pytest.mark.slow
@pytest.mark.parametrize(("shrunk", "steps"), [(False, 100), (True, 240)])
def test_learns_two_images_by_heart(shrunk: bool, steps: int) -> None:
    torch.manual_seed(0)
    model = build_model(configuration(shrunk, MODEL__MASK_FORMER__DROPOUT=0.0, MODEL__VIT__PATCH_SIZE=8)).train()
    inputs = batch()[:2]
    for index, one in enumerate(inputs):  # a hue for each class
        one["image"] = (one["labels"][None] * torch.tensor([50, 20, 35])[:, None, None] + 40 * index).float() % 256
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(steps):
        losses = model(inputs)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        results = model.eval()(inputs)
    for one, result in zip(inputs, results, strict=True):
        known = one["labels"] < 255
        right = (result["sem_seg"].argmax(0) == one["labels"])[known].float().mean()
        assert right > 0.9


@pytest.mark.parametrize("shrunk", [False, True])
def test_mixed_and_half_precision(shrunk: bool) -> None:
    model = build_model(configuration(shrunk)).train()
    exact = sum(model(batch()).values())
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(batch())
    total = sum(losses.values())
    total.backward()
    assert float(total.detach()) == pytest.approx(float(exact.detach()), rel=0.05)
    assert all(x.grad is not None and x.grad.isfinite().all() for x in model.parameters())
    model.eval()
    image = {"image": batch()[0]["image"]}
    with torch.no_grad():
        scores = model([image])[0]["sem_seg"]
        half = model.to(torch.bfloat16)([image])[0]["sem_seg"]
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, scores, atol=0.03, rtol=0.05)
