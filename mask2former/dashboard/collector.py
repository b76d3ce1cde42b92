"""Count what a report shows beyond the scores, from the images that the evaluators have compared."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from detectron2.data.catalog import Metadata

from mask2former.dashboard.album import IMAGES, Album, Entry
from mask2former.dashboard.class_list import ClassList
from mask2former.dashboard.error_types import judge
from mask2former.dashboard.examples import Drawer
from mask2former.dashboard.gallery import Example, Gallery
from mask2former.dashboard.marks import Mark, pixel_marks, segment_marks
from mask2former.dashboard.tally import PixelTally, SegmentTally
from mask2former.evaluation.handover import ComparedImage, InstanceImage, PanopticImage, SemanticImage

TASKS: dict[type, str] = {PanopticImage: "panoptic", InstanceImage: "instance", SemanticImage: "semantic"}
MakeMarks = Callable[[Example | None], list[Mark]]  # with boxes, if it is given the drawn example


@dataclass
class Findings:
    """Counts over images; their size does not grow with the number of images.

    Attributes:
        panoptic, instance, semantic: counts by task; None if the task is not evaluated.
        gallery: best and worst images by the first of these tasks.
        albums: images to browse by task.
        compared: number of images by task.
    """

    panoptic: SegmentTally | None
    instance: SegmentTally | None
    semantic: PixelTally | None
    gallery: Gallery
    albums: dict[str, Album] = field(default_factory=dict)
    compared: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, other: Findings) -> Findings:
        for task in TASKS.values():
            if getattr(self, task) is not None:
                getattr(self, task).__iadd__(getattr(other, task))
        self.gallery.take([other.gallery])
        for task, album in self.albums.items():
            album.take(other.albums[task])
        self.compared += other.compared
        return self


class Collector:
    """Count compared images into :class:`Findings`.

    Args:
        metadata: metadata of the data set.
        tasks: those of "panoptic", "instance" and "semantic" whose evaluators hand over their images.
        examples: number of the best and of the worst images to keep.
    """

    def __init__(self, metadata: Metadata, tasks: Sequence[str], examples: int = 6) -> None:
        self.tasks = [task for task in TASKS.values() if task in tasks]
        self.classes = ClassList.of(metadata, self.tasks)
        self._draw = Drawer(self.classes, metadata)
        self._examples = examples
        self.reset()

    def reset(self) -> None:
        number = len(self.classes.names)
        tallies = {task: SegmentTally.empty(number) for task in ("panoptic", "instance") if task in self.tasks}
        self.findings = Findings(
            panoptic=tallies.get("panoptic"),
            instance=tallies.get("instance"),
            semantic=PixelTally.empty(number) if "semantic" in self.tasks else None,
            gallery=Gallery(self._examples),
            albums={task: Album(IMAGES // len(self.tasks)) for task in self.tasks},
        )

    def add(self, image: ComparedImage) -> None:
        """Count one image of one task."""
        task = TASKS[type(image)]
        if isinstance(image, SemanticImage):
            quality, marks = self._add_pixels(image)
        else:
            quality, marks = self._add_segments(image, getattr(self.findings, task))
        self.findings.compared[task] += 1
        if quality is None:
            return
        example = cache(lambda: self._draw(image, quality))
        if task == self.tasks[0]:
            self.findings.gallery.offer(quality, example)
        self.findings.albums[task].offer(image.file_name, marks(None), lambda: Entry.of(example(), marks(example())))

    def _add_pixels(self, image: SemanticImage) -> tuple[float | None, MakeMarks]:
        assert self.findings.semantic is not None
        places, counts = self.classes.of_labels(np.arange(len(image.counts))), image.counts.T
        return self.findings.semantic.add(counts, places), lambda _: pixel_marks(counts, places)

    def _add_segments(
        self, image: PanopticImage | InstanceImage, tally: SegmentTally
    ) -> tuple[float | None, MakeMarks]:
        overlaps = dataclasses.replace(
            image.overlaps,
            true_classes=self.classes.of_files(image.overlaps.true_classes),
            found_classes=self.classes.of_files(image.overlaps.found_classes),
        )
        judgement = judge(overlaps, image.matches)
        scores: list[float | None] = [None] * len(overlaps.found_classes)
        if isinstance(image, InstanceImage):
            scores = [one["score"] for one in image.found]

        def marks(example: Example | None) -> list[Mark]:
            boxes = self._draw.boxes(image, example) if example else None
            return segment_marks(overlaps, judgement, len(self.classes.names), scores, boxes)

        return tally.add(overlaps, judgement), marks

    @staticmethod
    def together(parts: Iterable[Findings]) -> Findings:
        """Add up the findings of all processes; tasks for which no image was compared become None."""
        first, *others = parts
        for other in others:
            first += other
        for task in TASKS.values():
            if not first.compared[task]:
                setattr(first, task, None)
        return first
