"""Count what a report shows beyond the scores, from the images that the evaluators have compared."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from detectron2.data.catalog import Metadata

from mask2former.dashboard.class_list import ClassList
from mask2former.dashboard.error_types import judge
from mask2former.dashboard.examples import Drawer
from mask2former.dashboard.gallery import Gallery
from mask2former.dashboard.tally import PixelTally, SegmentTally
from mask2former.evaluation.handover import ComparedImage, InstanceImage, PanopticImage, SemanticImage

TASKS: dict[type, str] = {PanopticImage: "panoptic", InstanceImage: "instance", SemanticImage: "semantic"}


@dataclass
class Findings:
    """Counts over images; their size does not grow with the number of images.

    Attributes:
        panoptic, instance, semantic: counts by task; None if the task is not evaluated.
        gallery: best and worst images by the first of these tasks.
        compared: number of images by task.
    """

    panoptic: SegmentTally | None
    instance: SegmentTally | None
    semantic: PixelTally | None
    gallery: Gallery
    compared: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, other: Findings) -> Findings:
        for task in TASKS.values():
            if getattr(self, task) is not None:
                getattr(self, task).__iadd__(getattr(other, task))
        self.gallery.take([other.gallery])
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
        )

    def add(self, image: ComparedImage) -> None:
        """Count one image of one task."""
        task = TASKS[type(image)]
        tally = getattr(self.findings, task)
        if isinstance(image, SemanticImage):
            quality = tally.add(image.counts.T, self.classes.of_labels(np.arange(len(image.counts))))
        else:
            overlaps = dataclasses.replace(
                image.overlaps,
                true_classes=self.classes.of_files(image.overlaps.true_classes),
                found_classes=self.classes.of_files(image.overlaps.found_classes),
            )
            quality = tally.add(overlaps, judge(overlaps, image.matches))
        self.findings.compared[task] += 1
        if quality is not None and task == self.tasks[0]:
            self.findings.gallery.offer(quality, lambda: self._draw(image, quality))

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
