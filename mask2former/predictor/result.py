"""The results of a model for one image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data.catalog import Metadata
from PIL import Image

from mask2former.predictor.arrays import InstanceArrays
from mask2former.predictor.coco import coco_file
from mask2former.predictor.lazy_outputs import LazyOutputs
from mask2former.predictor.to_supervision import to_supervision
from mask2former.tiling import whole_masks
from mask2former.visualization import (
    INSTANCE_THRESHOLD,
    RESULTS,
    ImageArray,
    Region,
    add_legend,
    class_map_regions,
    draw_regions,
    make_region,
    result_of,
    save_image,
    side_by_side,
)

LABELS = "labels"  # the mode that draws numbers, not colours
EXACT_SUFFIXES = (".png", ".tif", ".tiff")  # formats that keep numbers exactly, 16 bits too


class Result:
    """One image's results, each computed when it is first read.

    Attributes:
        image: the image, [H, W, 3] uint8, RGB.
        names: names of the classes, by their number.
        tasks: those of "panoptic", "instance" and "semantic" that there are.
        file_name: name of the image's file, without folders; None if it came from memory.
        metadata: names, colours and ids of the classes.
        seconds: when the frame is shown, from the beginning of its film; None: not known.
    """

    def __init__(
        self,
        image: ImageArray,
        outputs: LazyOutputs,
        *,
        metadata: Metadata,
        names: Sequence[str],
        tasks: Sequence[str],
        threshold: float | None = None,
        file_name: str | None = None,
        seconds: float | None = None,
    ) -> None:
        self.image = image
        self.seconds = seconds
        self.metadata = metadata
        self.names = tuple(names)
        self.tasks = tuple(tasks)
        self.file_name = file_name
        self._threshold = threshold
        self._outputs: LazyOutputs | None = outputs
        self._found: dict[str, Any] = {}

    @property
    def panoptic(self) -> np.ndarray:
        """The id of each pixel's segment, 0 for none: int32 [H, W]."""
        return self._get("panoptic")[0]

    @property
    def segments(self) -> list[dict[str, Any]]:
        """The segments of :attr:`panoptic`.

        Each has ``id``, ``category_id`` (number of the class), ``isthing``, ``name`` and ``area`` in pixels. In a film
        ids stay from frame to frame, and things have their ``track_id`` too.
        """
        return self._get("panoptic")[1]

    @property
    def instances(self) -> InstanceArrays:
        """The objects with a score of at least the threshold."""
        return self._get("instance")

    @property
    def semantic(self) -> np.ndarray:
        """The number of each pixel's class: int32 [H, W]; -1 outside of a region of interest."""
        return self._get("semantic")

    def compute(self) -> Result:
        """Compute all of :attr:`tasks` now, and free the network's output, which takes memory of the device."""
        for task in self.tasks:
            self._get(task)
        self._outputs = None
        return self

    def at_threshold(self, threshold: float) -> Result:
        """Return the image's results at another threshold (see :class:`mask2former.Predictor`).

        The network is not run again, unless the image was cut into tiles.

        Raises:
            ValueError: :meth:`compute` has freed the network's output.
        """
        if self._outputs is None:
            raise ValueError("Call at_threshold() before compute(), which discards the network's outputs.")
        other = Result(
            self.image,
            self._outputs,
            metadata=self.metadata,
            names=self.names,
            tasks=self.tasks,
            threshold=threshold,
            file_name=self.file_name,
            seconds=self.seconds,
        )
        if "semantic" in self._found:  # independent of the threshold
            other._found["semantic"] = self._found["semantic"]
        return other

    def regions(self, task: str | None = None) -> list[Region]:
        """Return the regions to draw for a task, the first of :attr:`tasks` if None."""
        task = task or self.tasks[0]
        if task == "semantic":
            return class_map_regions(self.semantic, self.metadata)
        if task == "panoptic":
            ids = self.panoptic
            return [
                make_region(ids == s["id"], s["category_id"], s["isthing"], self.metadata, track=s.get("track_id"))
                for s in self.segments
            ]
        found = self.instances
        tracks = [None] * len(found) if found.tracks is None else found.tracks.tolist()
        rows = zip(found.masks, found.classes.tolist(), found.scores.tolist(), tracks, strict=True)
        return [make_region(mask, number, True, self.metadata, score, track) for mask, number, score, track in rows]

    def draw(
        self,
        task: str | None = None,
        mode: str = "overlay",
        *,
        legend: bool = False,
        beside: bool = False,
        names: bool | None = None,
        shades: bool = True,
    ) -> ImageArray:
        """Draw the result.

        Args:
            task: "panoptic", "instance" or "semantic"; the first of :attr:`tasks` if None.
            mode: one of :func:`mask2former.visualization.draw_regions`, or "labels": see :meth:`label_map`.
            legend: show colours and classes below the image.
            beside: show the original image to the left.
            names, shades: see :func:`mask2former.visualization.draw_regions`.

        Returns:
            [H', W', 3] uint8, RGB, enlarged by a whole factor if the image is small; [H, W] in mode "labels".
        """
        if mode == LABELS:
            return self.label_map(task)
        regions = self.regions(task)
        drawn = draw_regions(self.image, regions, mode, names=names, shades=shades)
        if beside:
            drawn = side_by_side(self.image, None, drawn)
        if not legend:
            return drawn
        return add_legend(drawn, [region for region in regions if mode != "boxes" or region.isthing])

    def label_map(self, task: str | None = None) -> np.ndarray:
        """Return a number for each pixel, [H, W] uint8, or uint16 if a number is above 255.

        Semantic: the number of the class. Panoptic: the segment's id, 0 for none. Instance: 1 for the best object, 2
        for the next and so on, 0 for none; the better of overlapping objects. Outside of a region of interest the
        semantic number is the greatest of the type.
        """
        task = task or self.tasks[0]
        if task == "instance":
            numbers = np.zeros(self.image.shape[:2], np.int32)
            for index in reversed(range(len(self.instances))):
                numbers[self.instances.masks[index]] = index + 1
        else:
            numbers = self.panoptic if task == "panoptic" else self.semantic
        most = 254 if numbers.min(initial=0) < 0 else 255  # VOID, -1, becomes the greatest number
        return numbers.astype(np.uint8 if numbers.max(initial=0) <= most else np.uint16)

    def save(self, file: str | Path, task: str | None = None, mode: str = "overlay", **drawing: Any) -> Path:
        """Write :meth:`draw`'s image in the format of the file's suffix; missing folders are created.

        Raises:
            OSError: the file cannot be written.
            ValueError: mode "labels" and a format that would change the numbers.
        """
        file = Path(file).expanduser()
        if mode == LABELS and file.suffix.lower() not in EXACT_SUFFIXES:
            raise ValueError(
                f"{file}: this format would change label numbers; name one of {', '.join(EXACT_SUFFIXES)}."
            )
        drawn = self.draw(task, mode, **drawing)
        file.parent.mkdir(parents=True, exist_ok=True)
        return save_image(file, drawn)

    def save_masks(self, folder: str | Path, task: str | None = None) -> list[Path]:
        """Write each region's mask as a png of 0 and 255, named by its number and class, such as ``003_dog.png``."""
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for number, region in enumerate(self.regions(task), start=1):
            name = "".join(letter if letter.isalnum() else "-" for letter in region.name)
            files.append(save_image(folder / f"{number:03d}_{name}.png", region.mask.astype(np.uint8) * 255))
        return files

    def to_coco(self, task: str | None = None, image_id: int = 1) -> dict[str, Any]:
        """Return the result as a COCO json: ``images``, ``annotations`` and ``categories``.

        Instances have run-length masks, boxes and scores; a semantic result has one annotation for each class. A
        panoptic result has one annotation with its segments, and names a png of their ids, which
        :func:`mask2former.data.images.read.panoptic_png` makes. Category ids are the data set's.
        """
        return coco_file([self], task or self.tasks[0], [image_id])

    def to_supervision(self, task: str | None = None) -> Any:
        """Return a ``supervision.Detections``: see :func:`mask2former.predictor.to_supervision.to_supervision`."""
        return to_supervision(self, task)

    def summary(self) -> str:
        """List the contents of the image in words: "3 person, dog, grass"."""
        regions = self.regions()
        counts = Counter(region.name for region in sorted(regions, key=lambda region: not region.isthing))
        return ", ".join(f"{count} {name}" if count > 1 else name for name, count in counts.items()) or "nothing"

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return f"Result({self.file_name or 'image'}, {width} x {height}: {', '.join(self.tasks)})"

    def _repr_png_(self) -> bytes:
        """Draw the result for notebooks."""
        file = BytesIO()
        Image.fromarray(self.draw(legend=True)).save(file, "png")
        return file.getvalue()

    def class_name(self, number: int) -> str:
        """Return the name of a class; its number as text if the data set has no name for it."""
        return self.names[number] if number < len(self.names) else str(number)

    def _get(self, task: str) -> Any:
        if task not in self.tasks:
            raise ValueError(
                f"There is no {task} result: this predictor gives {', '.join(self.tasks)}. Another model, or "
                f"MODEL.MASK_FORMER.TEST.{task.upper()}_ON True, may give it."
            )
        if task not in self._found:
            assert self._outputs is not None
            outputs = self._outputs(task, self._threshold)
            readers = {"panoptic": self._read_panoptic, "instance": self._read_instances, "semantic": _read_semantic}
            for name, keys in RESULTS.items():
                if not outputs.keys().isdisjoint(keys) and name not in self._found:
                    self._found[name] = readers[name](result_of(outputs, name))
        return self._found[task]

    def _read_panoptic(self, output: tuple[Any, list[dict[str, Any]]]) -> tuple[np.ndarray, list[dict[str, Any]]]:
        ids = output[0].cpu().numpy().astype(np.int32, copy=False)
        areas = np.bincount(ids.ravel())
        segments = []
        for s in output[1]:
            number = int(s["category_id"])
            facts = {"id": int(s["id"]), "category_id": number, "isthing": bool(s["isthing"])}
            facts |= {"track_id": int(s["track_id"])} if "track_id" in s else {}
            segments.append({**facts, "name": self.class_name(number), "area": int(areas[s["id"]])})
        return ids, segments

    def _read_instances(self, output: Any) -> InstanceArrays:
        threshold = INSTANCE_THRESHOLD if self._threshold is None else self._threshold
        best = output.scores.argsort(descending=True, stable=True)
        best = best[output.scores[best] >= threshold]
        masks = whole_masks(output, best.tolist()) if output.has("mask_crops") else output.pred_masks[best]
        return InstanceArrays(
            masks=masks.cpu().numpy().astype(bool, copy=False),
            boxes=output.pred_boxes.tensor[best.to(output.pred_boxes.device)].cpu().numpy(),
            classes=output.pred_classes[best].cpu().numpy(),
            scores=output.scores[best].cpu().numpy(),
            tracks=output.track_ids[best].cpu().numpy() if output.has("track_ids") else None,
        )


def _read_semantic(output: Any) -> np.ndarray:
    return output.cpu().numpy().astype(np.int32)
