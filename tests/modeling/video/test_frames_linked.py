"""Clips through networks of images, frame by frame: against a slow and plain version of MinVIS's linking."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from scipy.optimize import linear_sum_assignment
from small_models import configuration, kmax
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.postprocess import ClipSettings, ResizedMasks
from mask2former.structures import FactoredMasks
from mask2former.tracking.clips import link_clip

FRAMES = 4


def model(arch: str, decoder: str, way: str, **link: Any) -> nn.Module:
    cfg = configuration()
    former = cfg.MODEL.MASK_FORMER
    cfg.MODEL.META_ARCHITECTURE, former.TRANSFORMER_DECODER_NAME = arch, decoder
    if decoder == "LocatedQueryDecoder":
        former.NUM_LOCATED_QUERIES, former.LOSS_TERMS = 6, ["ClassLoss", "MaskAndDiceLoss", "PlaceLoss"]
    former.TEST.SEMANTIC_ON, former.TEST.INSTANCE_ON, former.TEST.CLIP = False, True, way
    for key, value in link.items():
        former.TEST.LINK[key] = value
    torch.manual_seed(0)
    return build_model(cfg).eval()


def clip_input(seed: int = 1) -> dict[str, Any]:
    """A scene whose light changes, 50x70, wanted at 33x40."""
    torch.manual_seed(seed)
    scene = torch.randint(0, 256, (3, 50, 70)).float()
    frames = [(scene * (1 - 0.15 * t) + 20 * torch.rand(3, 50, 70)).clamp(0, 255).byte() for t in range(FRAMES)]
    return {"image": frames, "height": 33, "width": 40}


def plain_minvis(network: nn.Module, clip: dict[str, Any]) -> list[tuple[float, int, Tensor]]:
    """(score, class, mask logits [T, H, W]) of every query and class, best first, all masks in memory."""
    orders, logits, masks, before = [], [], [], None
    for image in clip["image"]:
        prediction, batch = network.predict_raw([{"image": image}])
        embed = prediction.masks.mask_embed[0].double()
        if before is None:
            order = list(range(len(embed)))
        else:
            cost = [[1 - float(F.cosine_similarity(a, b, dim=0)) for b in embed] for a in before]
            order = linear_sum_assignment(cost)[1].tolist()
        before = embed[order]
        orders.append(order)
        logits.append(prediction.class_logits[0][order])
        full = F.interpolate(prediction.masks.logits()[0], batch.padded_size, mode="bilinear", align_corners=False)
        full = F.interpolate(full[..., :50, :70], (33, 40), mode="bilinear", align_corners=False)
        masks.append(full[order, 0])
    probability = torch.stack(logits).mean(0).softmax(-1)[:, :-1]
    tracks = torch.stack(masks, 1)
    found = [(float(p), k, tracks[q]) for q, row in enumerate(probability) for k, p in enumerate(row)]
    return sorted(found, key=lambda one: -one[0])


@pytest.mark.parametrize("decoder", ["MultiScaleMaskedTransformerDecoder", "LocatedQueryDecoder"])
@pytest.mark.parametrize("frames", [1, 3])
def test_minvis_is_the_plain_version(decoder: str, frames: int) -> None:
    network = model("VideoMaskFormer", decoder, "minvis", FRAMES=frames)
    clip = clip_input()
    with torch.no_grad():
        result = network([clip])
        expected = plain_minvis(network, clip)[:10]
    assert result["image_size"] == (33, 40) and len(result["pred_masks"]) == 10
    assert result["pred_scores"] == pytest.approx([score for score, *_ in expected], abs=1e-5)
    for label, mask, (_, category, logits) in zip(result["pred_labels"], result["pred_masks"], expected, strict=True):
        assert label == category and mask.dtype == torch.bool and mask.shape == (FRAMES, 33, 40)
        differ = mask != (logits > 0)
        assert bool((logits[differ].abs() < 1e-2).all())  # where half precision decides


def film(orders: list[list[int]], shown: list[set[int]], count: int = 3) -> Any:
    """Return a `predict` of frames in which query i shows object ``orders[t][i]``, a row of pixels of its own."""
    maps = torch.full((count, 8, 8), -6.0)
    for number in range(count):
        maps[number, 2 * number : 2 * number + 2] = 6.0

    def predict(images: list[dict[str, Any]]) -> list[tuple[Tensor, ResizedMasks]]:
        results = []
        for one in images:
            t = int(one["image"][0, 0, 0])
            order = orders[t]
            logits = torch.tensor([[4.0, 0.0, 0.0] if name in shown[t] else [-4.0, -4.0, 4.0] for name in order])
            masks = FactoredMasks(torch.eye(count)[order][None], maps[None, :, None])
            results.append((logits, ResizedMasks(masks, 0, (8, 8), (8, 8), None)))
        return results

    clip = {"image": [torch.full((3, 8, 8), t) for t in range(len(orders))]}
    return predict, clip, maps > 0


@pytest.mark.parametrize("frames", [1, 2])
def test_tracker_has_objects_where_they_are_seen(frames: int) -> None:
    shown = [{0, 1}, {0, 1, 2}, {0, 2}, {0, 2}]
    predict, clip, masks = film([[0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 2, 1]], shown)
    result = link_clip(predict, clip, ClipSettings(way="tracker", frames=frames, tracks=3))
    chance = float(torch.tensor([4.0, 0.0, 0.0]).softmax(0)[0])
    assert result["pred_scores"] == pytest.approx([chance, chance * 0.75**0.5, chance * 0.5**0.5])
    assert result["pred_labels"] == [0, 0, 0]
    for name, found in zip([0, 2, 1], result["pred_masks"], strict=True):
        for t in range(4):
            assert torch.equal(found[t], masks[name] if name in shown[t] else torch.zeros(8, 8, dtype=torch.bool))


def test_a_film_without_objects_has_no_tracks() -> None:
    predict, clip, _ = film([[0, 1, 2]] * 2, [set(), set()])
    result = link_clip(predict, clip, ClipSettings(way="tracker"))
    assert result["pred_masks"] == [] and result["pred_scores"] == [] and result["image_size"] == (8, 8)


def test_the_order_of_queries_changes_nothing() -> None:
    everything = [{0, 1, 2}] * 3
    for settings in (ClipSettings(way="tracker", overlap=0.5), ClipSettings(way="minvis", overlap=0.5)):
        results = []
        for orders in ([[0, 1, 2]] * 3, [[0, 1, 2], [2, 1, 0], [1, 0, 2]]):
            predict, clip, _ = film(orders, everything)
            results.append(link_clip(predict, clip, settings))
        assert results[0]["pred_scores"] == results[1]["pred_scores"]
        assert all(torch.equal(a, b) for a, b in zip(results[0]["pred_masks"], results[1]["pred_masks"], strict=True))


@pytest.mark.parametrize("overlap", [0.0, 0.8])
@pytest.mark.parametrize("way", ["minvis", "tracker"])
def test_located_queries_that_look_alike_keep_their_places(way: str, overlap: float) -> None:
    """The decoder's places are in what makes its masks: they tell apart what the looks, made equal here, cannot."""
    network = model("VideoMaskFormer", "LocatedQueryDecoder", way)
    with torch.no_grad():
        ((_, masks),) = network.predict([{"image": clip_input()["image"][0]}])
    located, looks = 6, 32
    embed = masks.masks.mask_embed[:, -located:].clone()
    embed[..., :looks] = embed[:, :1, :looks]
    orders = torch.stack([torch.randperm(located) for _ in range(5)])
    sure = torch.tensor([[6.0] + [0.0] * 7] * located)

    def predict(images: list[dict[str, Any]]) -> list[tuple[Tensor, ResizedMasks]]:
        order = orders[int(images[0]["image"][0, 0, 0])]
        return [(sure, replace(masks, masks=FactoredMasks(embed[:, order], masks.masks.features)))]

    clip = {"image": [torch.full((3, 50, 70), t) for t in range(len(orders))]}
    found = link_clip(predict, clip, ClipSettings(way=way, frames=1, tracks=located, overlap=overlap))["pred_masks"]
    assert len(found) == located
    for number, track in enumerate(found):
        assert track.any() and all(torch.equal(frame, track[0]) for frame in track)
        assert all(not torch.equal(track[0], other[0]) for other in found[:number])


@pytest.mark.parametrize("way", ["minvis", "tracker"])
def test_masks_that_are_a_softmax(way: str) -> None:
    """kMaX-DeepLab: a clip of one frame has the masks of the image."""
    cfg = kmax()
    cfg.MODEL.MASK_FORMER.TEST.CLIP, cfg.MODEL.MASK_FORMER.TEST.LINK.START = way, 0.0
    torch.manual_seed(0)
    network = build_model(cfg).eval()
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        (result,) = network([{"image": [image]}])
        ((class_logits, masks),) = network.predict([{"image": image}])
        every = masks(torch.arange(masks.masks.num_queries))
    best = class_logits.softmax(-1)[:, :-1].flatten().topk(10)
    assert result["pred_scores"] == pytest.approx(best.values.tolist(), abs=1e-5)
    for pair, mask in zip(best.indices.tolist(), result["pred_masks"], strict=True):
        logits = every[pair // (class_logits.shape[1] - 1)]
        assert bool((logits[mask[0] != (logits > 0)].abs() < 1e-2).all())


def test_images_and_several_clips() -> None:
    network = model("MaskFormer", "MultiScaleMaskedTransformerDecoder", "minvis")
    with torch.no_grad():
        one, other = network([clip_input(1), clip_input(2)])
        assert one["pred_scores"] == pytest.approx(network([clip_input(1)])[0]["pred_scores"], abs=1e-5)
        assert other["pred_scores"] != one["pred_scores"]
        assert network([{"image": clip_input()["image"][0]}])[0]["instances"].has("pred_masks")
        joint = replace(network.post_processing, clips=ClipSettings())
        assert len(network.infer([clip_input()], joint)[0]["frames"]) == FRAMES


def test_the_decoder_of_places_takes_clips_at_once_and_in_windows() -> None:
    network = model("VideoMaskFormer", "LocatedQueryDecoder", "joint")
    clip = clip_input()
    with torch.no_grad():
        joint = network([clip])
        assert network.sees_clips and all(mask.shape == (FRAMES, 33, 40) for mask in joint["pred_masks"])
        one_window = ClipSettings(way="windows", frames=FRAMES + 1, start=0.0)
        windows = network.infer([clip], replace(network.post_processing, clips=one_window))[0]
        assert windows["pred_scores"] == pytest.approx(joint["pred_scores"], abs=1e-5)
        differ = [(a != b).sum() for a, b in zip(windows["pred_masks"], joint["pred_masks"], strict=True)]
        assert int(sum(differ)) <= 0.001 * sum(mask.numel() for mask in joint["pred_masks"])  # half precision
    assert not model("VideoMaskFormer", "LocatedQueryDecoder", "tracker").sees_clips
    assert not model("VideoMaskFormer", "MultiScaleMaskedTransformerDecoder", "joint").sees_clips


@pytest.mark.parametrize(
    "wrong", [{"way": "single"}, {"frames": 0}, {"overlap": 2.0}, {"memory": -1}, {"way": "windows"}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"MODEL\.MASK_FORMER\.TEST"):
        ClipSettings(**wrong)
