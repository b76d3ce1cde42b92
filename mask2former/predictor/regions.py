"""Regions to draw of a result."""

from __future__ import annotations

from mask2former.predictor.arrays import ResultArrays
from mask2former.visualization import Region, class_map_regions, make_region


def regions_of(result: ResultArrays, task: str) -> list[Region]:
    """Return the regions of a task of a :class:`mask2former.predictor.Result`: classes, segments, or objects."""
    if task == "semantic":
        return class_map_regions(result.semantic, result.metadata)
    if task == "panoptic":
        ids = result.panoptic
        return [
            make_region(ids == s["id"], s["class_id"], s["isthing"], result.metadata, track=s.get("track_id"))
            for s in result.segments
        ]
    found = result.instances
    tracks = [None] * len(found) if found.tracks is None else found.tracks.tolist()
    rows = zip(found.masks, found.classes.tolist(), found.scores.tolist(), tracks, strict=True)
    return [make_region(mask, number, True, result.metadata, score, track) for mask, number, score, track in rows]
