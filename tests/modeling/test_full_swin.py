"""The whole Swin-T model at its published size against Hugging Face's, by way of a file in their format.

Weights are random and shared. Their logits get their results by post-processing written out here on dense masks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.checkpoint import MaskFormerCheckpointer
from mask2former.checkpoint.weights_io import write
from mask2former.config import load_config
from mask2former.modeling import MaskFormer

transformers = pytest.importorskip("transformers")
CONFIG = Path(__file__).parents[2] / "configs/coco/panoptic/swin.yaml"
CLASSES, THINGS, TOP = 133, 80, 100
SCORE, SHARE = 0.1, 0.02  # thresholds that leave segments of what random weights see
TOLERANCE = 1e-4


def their_model() -> nn.Module:
    """Swin-T, 100 queries, 6 + 9 layers: their defaults but for the backbone and the classes."""
    swin = transformers.SwinConfig(
        embed_dim=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.0,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    model = transformers.Mask2FormerForUniversalSegmentation(
        transformers.Mask2FormerConfig(backbone_config=swin, num_labels=CLASSES)
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = parameter.dim() == 1 and name.endswith("weight")
            scale = 0.3 if parameter.dim() == 1 else parameter[0].numel() ** -0.5
            if "queries" in name:
                scale = 1.0
            elif "transformer_module.decoder.layers" in name and not norm:
                scale *= 0.3  # so that queries stay different and give more than one segment
            parameter.copy_(torch.randn_like(parameter) * scale + norm)
        model.class_predictor.weight *= 4  # so that some classes are held for likely
    return model.eval()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, MaskFormer]:
    torch.manual_seed(0)
    theirs = their_model()
    file = tmp_path_factory.mktemp("weights") / "model.safetensors"
    write(theirs.state_dict(), str(file), nested=False)
    test = "MODEL.MASK_FORMER.TEST."
    thresholds = [test + "OBJECT_MASK_THRESHOLD", SCORE, test + "OVERLAP_THRESHOLD", SHARE]
    cfg = load_config(str(CONFIG), ["MODEL.DEVICE", "cpu", "TEST.DETECTIONS_PER_IMAGE", TOP, *thresholds])
    ours = build_model(cfg).eval()
    checkpointer = MaskFormerCheckpointer(ours)
    checkpointer.load(str(file))
    assert checkpointer.report.matched == checkpointer.report.total and not checkpointer.report.left_over
    return theirs, ours


def image(height: int, width: int) -> Tensor:
    """Flat patches and noise, uint8 [3, H, W]."""
    coarse = F.interpolate(torch.rand(1, 3, height // 40, width // 40), (height, width), mode="bicubic")[0]
    return ((coarse + 0.1 * torch.randn(3, height, width)).clamp(0, 1) * 255).to(torch.uint8)


def panoptic(scores: Tensor, labels: Tensor, logits: Tensor) -> tuple[Tensor, list[dict[str, Any]], Tensor]:
    """Segments of the kept queries, from mask logits [n, H, W], scores and labels [n]; and which pixels are settled.

    A pixel is settled if logits that differ by the tolerance give it to the same query, inside its mask or outside.
    """
    probability = logits.sigmoid()
    (first, second), (winner, _) = (scores[:, None, None] * probability).topk(2, dim=0)
    settled = (first - second > TOLERANCE) & (logits.gather(0, winner[None])[0].abs() > TOLERANCE)
    ids, segments, stuff = torch.zeros(winner.shape, dtype=torch.int32), [], {}
    for query, label in enumerate(labels.tolist()):
        whole = probability[query] >= 0.5
        part = whole & (winner == query)
        if not part.any() or (winner == query).sum() < SHARE * whole.sum():
            continue
        if label >= THINGS and label in stuff:
            ids[part] = stuff[label]
            continue
        segments.append({"id": len(segments) + 1, "isthing": label < THINGS, "category_id": label})
        ids[part] = stuff[label] = len(segments)
    return ids, segments, settled


def instances(probabilities: Tensor, logits: Tensor) -> list[tuple[int, float, Tensor]]:
    """Class, score and mask logits of the best things, from class probabilities [Q, K] and mask logits [Q, H, W]."""
    scores, places = probabilities.flatten().topk(TOP)
    found = []
    for score, place in zip(scores.tolist(), places.tolist(), strict=True):
        query, label = divmod(place, CLASSES)
        mask = logits[query] > 0
        if label < THINGS:
            inside = logits[query].sigmoid()[mask].sum() / (mask.sum() + 1e-6)
            found.append((label, score * float(inside), logits[query]))
    return found


def same_mask(mask: Tensor, logits: Tensor) -> bool:
    """Whether a mask is that of the logits, wherever the tolerance does not change it."""
    return bool(((mask == (logits > 0)) | (logits.abs() <= TOLERANCE)).all())


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes", [[(640, 800)], [(203, 311), (187, 260)]], ids=["640x800", "padded batch of odd sizes"]
)
@torch.no_grad()
def test_whole_model(pair: tuple[nn.Module, MaskFormer], sizes: list[tuple[int, int]]) -> None:
    theirs, ours = pair
    torch.manual_seed(1)
    inputs = [{"image": image(*size)} for size in sizes]
    prediction, batch = ours.predict_raw(inputs)
    height, width = batch.padded_size
    assert height % 32 == width % 32 == 0
    expected = theirs(pixel_values=batch.images.tensor, pixel_mask=torch.ones(len(inputs), height, width))
    their_classes, their_masks = expected.class_queries_logits, expected.masks_queries_logits
    assert their_classes.std() > 0.5 and their_masks.std() > 0.5
    differences = {
        "class logits": float((prediction.class_logits - their_classes).abs().max()),
        "mask logits": float((prediction.masks.logits().squeeze(2) - their_masks).abs().max()),
    }
    print(f"largest differences: {differences}")
    assert max(differences.values()) < TOLERANCE

    for index, (result, (h, w)) in enumerate(zip(ours(inputs), sizes, strict=True)):
        logits = F.interpolate(their_masks[index, None], (height, width), mode="bilinear")[0, :, :h, :w]
        probabilities = their_classes[index].softmax(-1)
        scores, labels = probabilities.max(-1)
        kept = (labels != CLASSES) & (scores > SCORE)
        ids, segments, settled = panoptic(scores[kept], labels[kept], logits[kept])
        found_ids, found_segments = result["panoptic_seg"]
        assert len(segments) > 2 and (ids > 0).float().mean() > 0.1 and settled.float().mean() > 0.99
        assert found_segments == segments
        print(f"panoptic: {len(segments)} segments, {int((found_ids != ids).sum())} of {ids.numel()} pixels differ")
        assert torch.equal(found_ids[settled], ids[settled])

        found = result["instances"]
        best = instances(probabilities[:, :CLASSES], logits)
        assert len(found) == len(best) > 20
        left = list(zip(found.pred_classes.tolist(), found.scores.tolist(), found.pred_masks, strict=True))
        different = 0
        for label, score, logit in best:
            alike = (i for i, (c, s, _) in enumerate(left) if c == label and abs(s - score) < 1e-4)
            same = next((i for i in alike if same_mask(left[i][2], logit)), None)
            assert same is not None, f"an instance of class {label}, score {score}, has no partner of the same pixels"
            different += int((left.pop(same)[2] != (logit > 0)).sum())
        print(f"{len(best)} instances, {different} pixels differ")
