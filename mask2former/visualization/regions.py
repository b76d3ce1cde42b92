"""Convert a model's results or a data set's annotations to a list of regions to draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances
from detectron2.utils.colormap import colormap
from torch import Tensor

from mask2former.data.mapper.annotations import instance_objects, panoptic_objects, semantic_objects
from mask2former.data.mapper.mask_annotations import MaskAnnotations
from mask2former.labels import semantic_labels

ImageArray = np.ndarray
# task -> keys, of model outputs and of data set dicts
RESULTS = {"panoptic": ("panoptic_seg",), "instance": ("instances",), "semantic": ("sem_seg_labels", "sem_seg")}
ANNOTATIONS = {"panoptic": ("segments_info",), "instance": ("annotations",), "semantic": ("sem_seg_file_name",)}
INSTANCE_THRESHOLD = 0.5  # by default, instances with a lower score are neither kept nor drawn
_MOST_CLASSES = 1 << 24  # assumed for a data set without names of classes, so that any class is accepted


@dataclass(frozen=True)
class Region:
    """A region to paint.

    Attributes:
        mask: [H, W] bool.
        name: name of its class.
        colour: [3] uint8, RGB.
        isthing: an object; stuff otherwise.
        score: 0 to 1, if it has one.
        track: number of its track in a film, if it has one.
    """

    mask: np.ndarray
    name: str
    colour: np.ndarray
    isthing: bool
    score: float | None = None
    track: int | None = None

    @property
    def label(self) -> str:
        name = self.name if self.track is None else f"{self.name} #{self.track}"
        return name if self.score is None else f"{name} {100 * self.score:.0f}%"


def result_of(output: Mapping[str, Any], task: str) -> Any:
    """Return a model's result for a task; for "semantic" the labels, integers [H, W], in whichever form they came."""
    return semantic_labels(output) if task == "semantic" else output[RESULTS[task][0]]


def choose_task(found: Iterable[str], keys: Mapping[str, tuple[str, ...]], wanted: str | None, where: str) -> str:
    """Choose the wanted task, or the first with a key in ``found``.

    Raises:
        ValueError: there is no such task.
    """
    found = sorted(found)
    tasks = [task for task, names in keys.items() if not set(names).isdisjoint(found)]
    if not tasks or wanted not in (None, *tasks):
        raise ValueError(
            f"{where} has nothing to draw for {wanted or 'any task'}: found {found}. "
            f"A model gives what MODEL.MASK_FORMER.TEST.*_ON switches on, a data set what it was registered with."
        )
    return wanted or tasks[0]


def result_regions(output: dict[str, Any], metadata: Metadata, threshold: float, task: str | None) -> list[Region]:
    """Return the regions of a model's output for one image; see :func:`mask2former.visualization.draw_result`."""
    result = result_of(output, choose_task(output, RESULTS, task, "the model's output"))
    if isinstance(result, Instances):
        return instance_regions(result, metadata, threshold)
    if isinstance(result, tuple):
        ids, segments = result
        return panoptic_regions(ids, segments, metadata)
    return class_map_regions(result.cpu().numpy(), metadata)


def annotation_regions(
    record: dict[str, Any], size: tuple[int, int], metadata: Metadata, task: str | None
) -> list[Region]:
    """Return the regions of the annotation in a data set dict, for an image of ``size`` (H, W).

    If the metadata does not list the task's classes, those of the annotation are taken as they are.
    """
    task = choose_task(record, ANNOTATIONS, task, str(record["file_name"]))
    num_classes = len(metadata.get("thing_classes" if task == "instance" else "stuff_classes", ())) or _MOST_CLASSES
    readers: dict[str, Callable[[], MaskAnnotations]] = {
        "panoptic": lambda: panoptic_objects(record, size, num_classes),
        "instance": lambda: instance_objects(record, size, num_classes),
        "semantic": lambda: semantic_objects(record, size, num_classes, metadata.get("ignore_label", 255)),
    }
    classes, masks = readers[task]().to_masks()
    things = set(metadata.get("thing_dataset_id_to_contiguous_id", {}).values()) if task != "semantic" else set()
    found = zip(classes.tolist(), masks.numpy(), strict=True)
    return [make_region(mask, number, number in things, metadata) for number, mask in found]


def panoptic_regions(ids: Tensor, segments: Iterable[dict[str, Any]], metadata: Metadata) -> list[Region]:
    """Return the regions of ``panoptic_seg``: ids, int [H, W], and segments with ``id, isthing, category_id``."""
    numbers = ids.cpu().numpy()
    return [make_region(numbers == s["id"], s["category_id"], bool(s["isthing"]), metadata) for s in segments]


def instance_regions(instances: Instances, metadata: Metadata, threshold: float = INSTANCE_THRESHOLD) -> list[Region]:
    """Return the regions of ``instances`` with a score of at least the threshold."""
    kept = instances[instances.scores >= threshold].to("cpu")
    found = zip(kept.pred_masks.numpy(), kept.pred_classes.tolist(), kept.scores.tolist(), strict=True)
    return [make_region(mask.astype(bool), number, True, metadata, score) for mask, number, score in found]


def class_map_regions(classes: np.ndarray, metadata: Metadata) -> list[Region]:
    """Return the regions of a map of class numbers, int [H, W]: one for each class in it; below 0 there is none."""
    numbers = [number for number in np.unique(classes).tolist() if number >= 0]
    return [make_region(classes == number, number, False, metadata) for number in numbers]


def make_region(
    mask: np.ndarray,
    number: int,
    isthing: bool,
    metadata: Metadata,
    score: float | None = None,
    track: int | None = None,
) -> Region:
    """Make a region of class ``number``, with the data set's name and colour, or else ones derived from the number."""
    kind = "thing" if isthing else "stuff"
    names, colours = metadata.get(f"{kind}_classes", ()), metadata.get(f"{kind}_colors", ())
    palette = colormap(rgb=True, maximum=255)
    colour = colours[number] if number < len(colours) else palette[number % len(palette)]
    name = names[number] if number < len(names) else str(number)
    return Region(mask, name, np.asarray(colour, np.uint8), isthing, score, track)
