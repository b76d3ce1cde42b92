"""Instance results against a slow, obvious version of their scores."""

from __future__ import annotations

import pytest
import torch

from mask2former.modeling.postprocess import instance_inference
from mask2former.modeling.postprocess.instance import bounding_boxes

THINGS = {0, 2}


@pytest.mark.parametrize("things", [None, THINGS])
@pytest.mark.parametrize(("queries", "top_k"), [(30, 25), (3, 100), (1, 1)])
def test_instances_equal_slow_version(things: set[int] | None, queries: int, top_k: int) -> None:
    """Also with more results wanted than there are (query, class) pairs."""
    class_logits, masks = torch.randn(queries, 5) * 3, torch.randn(queries, 8, 9)
    masks[0] = -5.0  # an empty mask
    found = instance_inference(class_logits, lambda q: masks[q], top_k=top_k, things=things, size=(8, 9))
    probability = class_logits.softmax(-1)
    pairs = [(probability[q, k].item(), q, k) for q in range(queries) for k in range(4)]
    expected = []
    for score, q, k in sorted(pairs, reverse=True)[:top_k]:
        if things is not None and k not in things:
            continue
        mask = masks[q] > 0
        quality = (masks[q].sigmoid() * mask).sum() / (mask.sum() + 1e-6)
        expected.append((score * quality.item(), k, mask))
    order = found.scores.argsort(descending=True, stable=True)
    assert len(found) == len(expected)
    assert found.scores[order].tolist() == pytest.approx(sorted((e[0] for e in expected), reverse=True), abs=1e-6)
    by_score = {round(score, 5): (k, mask) for score, k, mask in expected}
    for score, k, mask, box in zip(
        found.scores, found.pred_classes, found.pred_masks, found.pred_boxes.tensor, strict=True
    ):
        if score > 0:
            assert int(k) == by_score[round(score.item(), 5)][0]
            assert torch.equal(mask, by_score[round(score.item(), 5)][1])
            rows, columns = mask.nonzero(as_tuple=True)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        else:
            assert not mask.any() and box.tolist() == [0, 0, 0, 0]


def test_boxes_reach_from_the_first_to_behind_the_last_pixel() -> None:
    masks = torch.rand(30, 5, 7) > 0.9
    masks[3] = False
    for mask, box in zip(masks, bounding_boxes(masks).tolist(), strict=True):
        pixels = mask.nonzero().tolist()
        rows, columns = [y for y, _ in pixels], [x for _, x in pixels]
        assert box == ([min(columns), min(rows), max(columns) + 1, max(rows) + 1] if pixels else [0, 0, 0, 0])
