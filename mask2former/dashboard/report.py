"""Write ``report.html``, which shows everything about one evaluation on one data set."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mask2former.dashboard.album_page import ALBUM_BYTES, album_context
from mask2former.dashboard.class_list import ClassList
from mask2former.dashboard.classes import columns, present
from mask2former.dashboard.coco_scores import by_class, precision_recall
from mask2former.dashboard.collector import Findings
from mask2former.dashboard.confusion import confusions, error_rows, matrix
from mask2former.dashboard.films import MEANINGS as TRACK_MEANINGS
from mask2former.dashboard.films import Films
from mask2former.dashboard.gallery import Example
from mask2former.dashboard.pages import jpeg_uri, write_page
from mask2former.dashboard.tally import SIDES, SegmentTally
from mask2former.data.images.read import read_image
from mask2former.evaluation.handover import CONFIDENT
from mask2former.evaluation.scores import summarize
from mask2former.visualization import draw_regions

logger = logging.getLogger(__name__)
IMAGE_BYTES = 6_000_000  # limit of all encoded images in a page together

MEANINGS = {
    "PQ": "Panoptic quality: how well segments are found and how well their masks fit; the mean over the classes.",
    "PQ of things": "The same over things: objects that can be counted.",
    "PQ of stuff": "The same over stuff: sky, grass and the like.",
    "PQ of semantic": "Panoptic quality of the segments that the semantic result makes by itself.",
    "mask AP": "Average precision of instances by their masks, the mean over IoU 0.5 to 0.95 and the classes.",
    "mask AP50": "The same where an IoU of 0.5 is enough.",
    "boundary AP": "Average precision by Boundary IoU, which compares only the boundaries of masks.",
    "box AP": "Average precision by bounding boxes.",
    "mIoU": "Mean over the classes of pixels in common / pixels of either (intersection over union).",
    "pixel accuracy": "Share of the annotated pixels with the right class.",
}


@dataclass(frozen=True)
class EvaluationRecord:
    """The contents of a report.

    Attributes:
        title: title of the page: what was evaluated.
        dataset: name of the data set.
        results: {task: {metric: value}} from the evaluators.
        images: number of images evaluated.
        findings: counts of the collector, over all processes.
        classes: classes by which the findings are counted.
        left_out: task -> why the report has only its scores.
        masks: COCO's evaluation of the masks; None if instances were not scored.
        facts: facts about the run, by name.
        config: the configuration as YAML.
        films: of an evaluation of videos.
    """

    title: str
    dataset: str
    results: Mapping[str, Any]
    images: int
    findings: Findings
    classes: ClassList
    left_out: Mapping[str, str]
    masks: Any
    facts: Mapping[str, str]
    config: str
    films: Films | None = None


def write_report(file: Path, evaluated: EvaluationRecord) -> Path:
    """Write the page into an existing folder."""
    findings, names = evaluated.findings, evaluated.classes.names
    precision = {}
    if evaluated.masks is not None and findings.instance is not None:
        places = evaluated.classes.places or {i: i for i in range(len(names))}
        precision = by_class(evaluated.masks, places, len(names))
    table = columns(findings, precision)
    films, meanings, of_tracks = None, MEANINGS, evaluated.results.get("segm", {})
    if evaluated.films is not None:
        table += evaluated.films.columns(of_tracks)
        films, meanings = evaluated.films.context(of_tracks), MEANINGS | TRACK_MEANINGS
    rows = np.flatnonzero(present(table)).tolist()
    tallies = {"panoptic": findings.panoptic, "instance": findings.instance}
    segments = {task: tally for task, tally in tallies.items() if tally is not None}
    galleries, unread = _galleries(findings)
    return write_page(
        file,
        "report.html",
        {
            "title": evaluated.title,
            "dataset": evaluated.dataset,
            "images": evaluated.images,
            "left_out": evaluated.left_out,
            "films": films,
            "scores": [(name, value, meanings[name]) for name, value in summarize(evaluated.results)],
            "confident": CONFIDENT,
            "columns": table,
            "groups": [
                (group, sum(c.group == group for c in table)) for group in dict.fromkeys(c.group for c in table)
            ],
            "rows": [(names[i], [column.values[i] for column in table]) for i in rows],
            "absent": len(names) - len(rows),
            "errors": [(task, tally, error_rows(tally, names)) for task, tally in segments.items()],
            "matrices": list(_matrices(findings, names)),
            "charts": [{"id": f"chart-{i}", **c} for i, c in enumerate(_charts(evaluated.masks, segments))],
            "galleries": galleries,
            "unread": unread,
            "album": album_context(findings.albums, names),
            "album_bytes": ALBUM_BYTES,
            "facts": evaluated.facts,
            "config": evaluated.config,
        },
    )


def _matrices(findings: Findings, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    counted = (
        ("panoptic", "segments", findings.panoptic, "segments with an IoU above 0.5"),
        (
            "instance",
            "instances",
            findings.instance,
            f"instances with a score of at least {CONFIDENT} and an IoU above 0.5",
        ),
        ("semantic", "pixels", findings.semantic, "pixels"),
    )
    for task, unit, tally, what in counted:
        if tally is None or len(names) < 2:
            continue
        counts = tally.confusion
        yield {
            "task": task,
            "unit": unit,
            "what": what,
            "matrix": matrix(counts, names),
            "words": confusions(counts, names),
        }


def _charts(masks: Any, segments: Mapping[str, SegmentTally]) -> Iterator[dict[str, Any]]:
    """Yield specifications for charts.js."""
    precisions = precision_recall(masks) if masks is not None else {}
    if precisions:
        recall = np.linspace(0, 100, 101)
        yield {
            "title": "Precision against recall (masks)",
            "words": "Precision as more and more instances are counted, in order of their scores.",
            "x": {"label": "recall, %", "min": 0, "max": 100},
            "y": {"label": "precision, %", "min": 0, "max": 100},
            "series": [{"name": name, "x": recall, "y": 100 * values} for name, values in precisions.items()],
        }
    for task, tally in segments.items():
        true, matched, iou = tally.by_size
        seen = true > 0
        if seen.sum() < 2:
            continue
        sides = np.array([f"{side}" for side in SIDES])[seen]
        labels = [*(f"{a} to {b}" for a, b in itertools.pairwise(SIDES)), f"{SIDES[-1]} and more"]
        notes = [f"{labels[i]} px: {int(true[i])} in the ground truth" for i in np.flatnonzero(seen)]
        quality = np.divide(iou, matched, out=np.full(len(iou), np.nan), where=matched > 0)
        yield {
            "title": f"Quality against size ({task})",
            "words": "The size is the side of a square of the same area. Small segments are the hard ones.",
            "x": {"label": "smallest size, pixels", "ticks": sides},
            "y": {"label": "%", "min": 0, "max": 100},
            "notes": notes,
            "series": [
                {
                    "name": "found (recall)",
                    "x": np.arange(len(sides)),
                    "y": 100 * (matched / np.maximum(true, 1))[seen],
                },
                {"name": "mean IoU of those found", "x": np.arange(len(sides)), "y": 100 * quality[seen]},
            ],
        }


def _galleries(findings: Findings) -> tuple[list[tuple[str, list[dict[str, Any]]]], str]:
    """Return ("worst" or "best", images), up to ``IMAGE_BYTES`` together, and why an image is not shown, if one isn't.

    An image was read when it was evaluated, but may have gone since; scores and the other images are worth a page.
    """
    result, unread = [], ""
    left = IMAGE_BYTES
    for name, examples in (("worst", findings.gallery.worst()), ("best", findings.gallery.best())):
        shown = []
        for example in examples:
            try:
                drawn = _drawn(example)
            except (OSError, ValueError) as error:
                logger.warning("The report does not show %s: %s", example.file_name, error)
                unread = unread or str(error)
                continue
            size = sum(map(len, drawn.values()))
            if size > left:
                break
            left -= size
            shown.append({"name": Path(example.file_name).name, "quality": example.quality, **drawn})
        result.append((name, shown))
    return [(name, shown) for name, shown in result if shown], unread


def _drawn(example: Example) -> dict[str, str]:
    """Draw an example: {"image", "truth", "found"}: data URIs."""
    height, width = example.size
    image = cv2.resize(read_image(example.file_name, "RGB"), (width, height), interpolation=cv2.INTER_AREA)
    truth, found = (draw_regions(image, packed.regions()) for packed in (example.truth, example.found))
    plain = cv2.resize(image, (found.shape[1], found.shape[0]), interpolation=cv2.INTER_CUBIC)
    return {"image": jpeg_uri(plain), "truth": jpeg_uri(truth), "found": jpeg_uri(found)}
