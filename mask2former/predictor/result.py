"""The results of a model for one image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data.catalog import Metadata

from mask2former.predictor.arguments import check_task, check_threshold
from mask2former.predictor.arrays import InstanceArrays
from mask2former.predictor.coco import category_ids, coco_file
from mask2former.predictor.label_map import label_map
from mask2former.predictor.lazy_outputs import LazyOutputs
from mask2former.predictor.parts import Part, read_parts
from mask2former.predictor.read_outputs import read_instances, read_panoptic, read_semantic
from mask2former.predictor.regions import regions_of
from mask2former.predictor.show import png_of, show_image
from mask2former.predictor.to_supervision import to_supervision
from mask2former.region import VOID
from mask2former.visualization import (
    RESULTS,
    ImageArray,
    Region,
    add_legend,
    draw_regions,
    result_of,
    save_image,
    side_by_side,
)

LABELS = "labels"  # the mode that draws numbers, not colours
EXACT_SUFFIXES = (".png", ".tif", ".tiff")  # formats that keep numbers exactly, 16 bits too


class Result:
    """One image's results, each computed when it is first read.

    ``len(result)`` is the number of :meth:`parts`, which a loop over the result yields: objects, segments or classes.

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
        again: Callable[[], LazyOutputs] | None = None,
    ) -> None:
        self.image = image
        self.seconds = seconds
        self.metadata = metadata
        self.names = tuple(names)
        self.tasks = tuple(tasks)
        self.file_name = file_name
        self._threshold = threshold
        self._outputs: LazyOutputs | None = outputs
        self._again = again  # runs the network once more; None: its output depends on images before
        self._found: dict[str, Any] = {}

    @property
    def panoptic(self) -> np.ndarray:
        """The id of each pixel's segment, 0 for none: int32 [H, W]."""
        return self._get("panoptic")[0]

    @property
    def segments(self) -> list[dict[str, Any]]:
        """The segments of :attr:`panoptic`.

        Each has ``id``, ``category_id`` (the data set's id of the class, as in :meth:`to_coco`), ``class_id`` (its
        number, the place in :attr:`names`), ``isthing``, ``name`` and ``area`` in pixels. In a film ids stay from frame
        to frame, and things have their ``track_id`` too.
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

        The network is not run again, unless the image was cut into tiles, or :meth:`compute` has freed its output, as
        for each of several images; then everything is computed at once.

        Raises:
            ValueError: the threshold is outside of [0, 1]; or :meth:`compute` has freed the output of a frame whose
                objects are followed, which depends on the frames before.
        """
        check_threshold(threshold)
        outputs = self._outputs
        if outputs is None and self._again is not None:
            outputs = self._again()
        if outputs is None:
            raise ValueError(
                "The network's output is gone, and cannot be made again for a film's frame, or in another process: "
                "call at_threshold() before compute()."
            )
        other = Result(
            self.image,
            outputs,
            metadata=self.metadata,
            names=self.names,
            tasks=self.tasks,
            threshold=threshold,
            file_name=self.file_name,
            seconds=self.seconds,
            again=self._again,
        )
        if "semantic" in self._found:  # independent of the threshold
            other._found["semantic"] = self._found["semantic"]
        return other if self._outputs is not None else other.compute()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the way back to the model out of what is sent to another process."""
        return {**self.__dict__, "_again": None}

    def parts(self, task: str | None = None) -> list[Part]:
        """Return objects, segments or classes of pixels, each with its mask, of a task, the first of :attr:`tasks`."""
        return read_parts(self, self._task(task))

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts())

    def __len__(self) -> int:
        task = self.tasks[0]
        if task == "semantic":
            return len(np.unique(self.semantic[self.semantic != VOID]))
        return len(self.segments if task == "panoptic" else self.instances)

    def __bool__(self) -> bool:
        """Return True, though nothing may be found: there is a result."""
        return True

    def regions(self, task: str | None = None) -> list[Region]:
        """Return the regions to draw for a task, the first of :attr:`tasks` if None."""
        return regions_of(self, self._task(task))

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
        return label_map(self, self._task(task))

    def show(
        self, task: str | None = None, mode: str = "overlay", *, legend: bool = True, **drawing: Any
    ) -> Path | None:
        """Show :meth:`draw`'s image in a notebook or a window; where neither is, write a file and print its name.

        Returns:
            The file, or None if the image is seen.
        """
        return show_image(self.draw(task, mode, legend=legend, **drawing), self.file_name or "result")

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
        return coco_file([self], self._task(task), [image_id])

    def to_supervision(self, task: str | None = None) -> Any:
        """Return a ``supervision.Detections``: see :func:`mask2former.predictor.to_supervision.to_supervision`."""
        return to_supervision(self, task and check_task(task))

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
        return png_of(self.draw(legend=True))

    def class_name(self, number: int) -> str:
        """Return the name of a class; its number as text if the data set has no name for it."""
        return self.names[number] if number < len(self.names) else str(number)

    def _task(self, task: str | None) -> str:
        return check_task(task or self.tasks[0])

    def _get(self, task: str) -> Any:
        if task not in self.tasks:
            raise ValueError(
                f"There is no {task} result: this predictor gives {', '.join(self.tasks)}. Another model, or "
                f"MODEL.MASK_FORMER.TEST.{task.upper()}_ON True, may give it."
            )
        if task not in self._found:
            assert self._outputs is not None
            outputs = self._outputs(task, self._threshold)
            for name, keys in RESULTS.items():
                if not outputs.keys().isdisjoint(keys) and name not in self._found:
                    self._found[name] = self._read(name, result_of(outputs, name))
        return self._found[task]

    def _read(self, task: str, output: Any) -> Any:
        if task == "panoptic":
            ids = {True: category_ids(self, "thing"), False: category_ids(self, "stuff")}
            return read_panoptic(output, ids, self.class_name)
        return read_instances(output, self._threshold) if task == "instance" else read_semantic(output)
