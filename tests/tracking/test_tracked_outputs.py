"""Results of tracked frames, against those of the same frames without tracking."""

from __future__ import annotations

import pytest
import torch

from mask2former.modeling.postprocess import PostProcessing, ResizedMasks, post_process
from mask2former.structures import DenseMasks, FactoredMasks
from mask2former.tracking import Tracker, follow

SIZE = (12, 16)
CLASSES = 4  # 0 and 1 are things
SETTINGS = PostProcessing(
    semantic_on=True, panoptic_on=True, instance_on=True, things=frozenset({0, 1}), object_mask_threshold=0.5
)


def scene(order: list[int], left: int) -> tuple[torch.Tensor, ResizedMasks]:
    """Return a frame: things of class 0, ``left`` pixels to the right, and of class 1; sky, ground; no object."""
    maps = torch.full((5, *SIZE), -8.0)
    maps[0, 2:6, left : left + 4] = 8
    maps[1, 7:11, 10:15] = 8
    maps[2, :6][maps[0, :6] < 0] = 6
    maps[3, 6:][maps[1, 6:] < 0] = 6
    logits = torch.full((5, CLASSES + 1), -4.0)
    logits[range(5), [0, 1, 2, 3, 4]] = 4.0
    # Factored so that query i has the i-th unit vector, and its features are the map.
    masks = FactoredMasks(torch.eye(5)[order][None], maps[None, :, None])
    return logits[order], ResizedMasks(masks, 0, SIZE, SIZE, None)


def test_ids_stay_while_queries_change():
    tracker, owners = Tracker(), []
    for order, left in (([0, 1, 2, 3, 4], 1), ([4, 3, 1, 2, 0], 3), ([1, 0, 4, 2, 3], 5)):
        logits, masks = scene(order, left)
        outputs = follow(tracker, SETTINGS, logits, masks)
        ids, segments = outputs("panoptic", None)["panoptic_seg"]
        plain, plain_segments = post_process(logits, masks, SETTINGS)["panoptic_seg"]
        assert len(segments) == len(plain_segments) == 4
        for segment in segments:  # the same segments as without tracking
            (number,) = plain[ids == segment["id"]].unique().tolist()
            assert torch.equal(ids == segment["id"], plain == number)
            (same,) = [one for one in plain_segments if one["id"] == number]
            assert (segment["category_id"], segment["isthing"]) == (same["category_id"], same["isthing"])
        owners.append((ids[3, left + 1].item(), ids[8, 12].item(), ids[0, 0].item(), ids[11, 0].item()))
        instances = outputs("instance", None)["instances"]
        instances = instances[instances.scores > 0.5]  # the others are of stuff
        rows = dict(zip(instances.track_ids.tolist(), range(len(instances)), strict=True))
        assert set(rows) == {1, 2}
        first = instances[rows[owners[0][0] - CLASSES]]
        assert first.pred_masks[0, 3, left + 1] and first.pred_classes.item() == 0 and first.scores.item() > 0.9
    assert len(set(owners)) == 1 and owners[0][2:] == (3, 4)


def test_semantic_scores_are_those_without_tracking_where_classes_do_not_change():
    logits, masks = scene([0, 1, 2, 3, 4], 2)
    tracked = follow(Tracker(), SETTINGS, logits, masks)("semantic", None)["sem_seg"]
    assert torch.allclose(tracked, post_process(logits, masks, SETTINGS)["sem_seg"], atol=1e-6)


def test_a_thing_that_looks_like_another_class_for_one_frame_keeps_its_class():
    tracker = Tracker()
    for number in range(4):
        logits, masks = scene([0, 1, 2, 3, 4], number)
        if number == 3:
            logits[0, 0], logits[0, 1] = 1.0, 3.0
        segments = follow(tracker, SETTINGS, logits, masks)("panoptic", None)["panoptic_seg"][1]
    assert [s["category_id"] for s in segments if s.get("track_id") == 1] == [0]


def test_masks_without_embeddings_are_refused():
    logits, masks = scene([0, 1, 2, 3, 4], 2)
    masks.masks = DenseMasks(masks.masks.logits())
    with pytest.raises(ValueError, match="track=False"):
        follow(Tracker(), SETTINGS, logits, masks)


def test_each_track_is_one_instance_whatever_the_threshold():
    """Ask for more instances than there are tracks: none may be made of one track's mask and another's number."""
    logits, masks = scene([0, 1, 2, 3, 4], 2)
    one_class = torch.stack([logits[:, :4].amax(1), logits[:, 4]], 1)  # [5, 1 + 1]: the fewest pairs
    settings = PostProcessing(instance_on=True, things=frozenset({0}), detections_per_image=100)
    instances = follow(Tracker(0.0), settings, one_class, masks)("instance", 0.0)["instances"]
    assert sorted(instances.track_ids.tolist()) == [1, 2, 3, 4, 5]
    left = instances.pred_masks[instances.track_ids.tolist().index(1)]
    assert left[3, 3] and not left[8, 12]
