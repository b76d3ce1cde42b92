"""Results of a frame whose queries are tracked: classes of the tracks, and ids that stay."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mask2former.modeling.postprocess import PostProcessing, ResizedMasks, object_results, semantic_scores
from mask2former.structures import FactoredMasks
from mask2former.tracking.places import coarse_masks
from mask2former.tracking.tracker import FrameTracks, Tracker


def follow(tracker: Tracker, settings: PostProcessing, class_logits: Tensor, masks: ResizedMasks) -> TrackedOutputs:
    """Link the next frame of a film, and return its outputs.

    Args:
        tracker: knows the frames before.
        settings: of the post-processing.
        class_logits: [Q, K + 1].
        masks: the frame's.

    Raises:
        ValueError: the network's masks are not made of query embeddings, so that nothing can be linked.
    """
    found = tracker.step(query_embeddings(masks), class_logits, partial(coarse_masks, masks))
    return TrackedOutputs(settings, class_logits, masks, found)


def query_embeddings(masks: ResizedMasks) -> Tensor:
    """Return the embeddings [Q, C] of a frame's queries, which make its masks.

    Raises:
        ValueError: the network's masks are not made of query embeddings.
    """
    if not isinstance(masks.masks, FactoredMasks):
        raise ValueError(
            "Tracking links the embeddings of queries, and this network's masks have none. Its results frame by frame "
            "are there without tracking: track=False."
        )
    return masks.masks.mask_embed[masks.image]


class TrackedOutputs:
    """Outputs of a tracked frame, for one task at a time.

    Classes are those of the tracks, averaged so far. In panoptic results the id of stuff is its class plus 1, that of a
    thing K plus the number of its track; segments of things and instances have their ``track_id`` too. Each track is at
    most one instance.
    """

    def __init__(self, settings: PostProcessing, class_logits: Tensor, masks: ResizedMasks, found: FrameTracks) -> None:
        self._settings, self._masks, self._found = settings, masks, found
        self._class_logits = class_logits.float().index_copy(0, found.queries, found.class_logits)

    @torch.no_grad()
    def __call__(self, task: str, threshold: float | None) -> dict[str, Any]:
        if task == "semantic":
            return {"sem_seg": semantic_scores(self._class_logits, self._masks, self._settings)}
        num_classes = self._class_logits.shape[1] - 1
        things = sorted(self._settings.things) or list(range(num_classes))
        logits, classes = _a_class_each(self._class_logits, self._found.queries, things)
        changes: dict[str, Any] = {} if threshold is None else {"object_mask_threshold": threshold}
        own = frozenset(range(num_classes, num_classes + len(classes)))
        # No more than there are pairs of a query and a class: the query of one track with another's class is none.
        pairs = int(logits[:, :-1].isfinite().sum())
        changes["detections_per_image"] = min(self._settings.detections_per_image, pairs)
        settings = replace(self._settings, instance_on=task == "instance", things=own, **changes)
        outputs = object_results(logits, self._masks, self._masks.size, settings)
        tracks = self._found.tracks
        if "panoptic_seg" in outputs:
            ids, segments = outputs["panoptic_seg"]
            outputs["panoptic_seg"] = _renumber(ids, segments, classes, tracks, num_classes)
        if "instances" in outputs:
            instances = outputs["instances"]
            instances = instances[instances.pred_classes >= num_classes]
            rows = (instances.pred_classes - num_classes).tolist()
            instances.pred_classes = instances.pred_classes.new_tensor([classes[row] for row in rows])
            instances.track_ids = instances.pred_classes.new_tensor([tracks[row] for row in rows])
            outputs["instances"] = instances
        return outputs


def _a_class_each(class_logits: Tensor, queries: Tensor, things: list[int]) -> tuple[Tensor, list[int]]:
    """Give each tracked query a class of its own, behind the K classes, for its likeliest class of things.

    So any rule of post-processing tells which query a segment is of. Queries that are not tracked become "no object".

    Returns:
        Logits [Q, K + n + 1], and the n likeliest classes.
    """
    log_chance = class_logits.log_softmax(-1)
    wide = torch.full((len(log_chance), log_chance.shape[1] + len(queries)), -torch.inf, device=log_chance.device)
    wide[:, -1] = 0.0
    chosen = log_chance[queries]
    best = chosen[:, things].argmax(-1)
    classes = torch.tensor(things, device=log_chance.device)[best]
    rows = torch.arange(len(queries), device=log_chance.device)
    of_query = wide[queries]
    of_query[:, : log_chance.shape[1] - 1] = chosen[:, :-1]
    of_query[:, -1] = chosen[:, -1]
    of_query[rows, log_chance.shape[1] - 1 + rows] = chosen[rows, classes]
    of_query[rows, classes] = -torch.inf
    wide[queries] = of_query
    return wide, classes.tolist()


def _renumber(
    ids: Tensor, segments: list[dict[str, Any]], classes: list[int], tracks: list[int], num_classes: int
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Give segments their lasting ids."""
    lookup = torch.zeros(1 + max((segment["id"] for segment in segments), default=0), dtype=ids.dtype)
    renamed = []
    for segment in segments:
        row = segment["category_id"] - num_classes
        if row >= 0:
            facts = {"id": num_classes + tracks[row], "category_id": classes[row], "track_id": tracks[row]}
        else:
            facts = {"id": segment["category_id"] + 1}
        lookup[segment["id"]] = facts["id"]
        renamed.append({**segment, **facts})
    return lookup.to(ids.device)[ids.long()], renamed
