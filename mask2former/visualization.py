"""Results and ground truth drawn over pictures.

Everything that can be drawn, of a model or of a data set, becomes a list of :class:`Region`; one function paints them.
Pictures are [H, W, 3] uint8, RGB. Small ones are enlarged by a whole factor, so that labels can be read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances
from detectron2.utils.colormap import colormap
from detectron2.utils.visualizer import Visualizer
from torch import Tensor

from mask2former.data.files import read_picture
from mask2former.data.objects import Objects
from mask2former.data.targets import instance_objects, panoptic_objects, semantic_objects

Picture = np.ndarray
RESULTS = {"panoptic": "panoptic_seg", "instance": "instances", "semantic": "sem_seg"}  # task -> key of model outputs
ANNOTATIONS = {"panoptic": "segments_info", "instance": "annotations", "semantic": "sem_seg_file_name"}
LEAST_SIDE = 384  # pixels; pictures whose shorter side is below half of it are enlarged
LEAST_LABELLED = 0.002  # share of the picture; stuff that covers less gets no label
OPACITY = 0.5


@dataclass(frozen=True)
class Region:
    """Something to paint.

    Attributes:
        mask: [H, W] bool.
        name: of its class.
        colour: [3] uint8, RGB.
        isthing: an object; stuff otherwise.
        score: 0 to 1, if it has one.
    """

    mask: np.ndarray
    name: str
    colour: np.ndarray
    isthing: bool
    score: float | None = None

    @property
    def label(self) -> str:
        return self.name if self.score is None else f"{self.name} {100 * self.score:.0f}%"


def draw_result(
    picture: Picture, output: dict[str, Any], metadata: Metadata, threshold: float = 0.5, task: str | None = None
) -> Picture:
    """Paint one picture's output of a model over it.

    Args:
        picture: of the output's size.
        output: with ``panoptic_seg``, ``instances`` or ``sem_seg``.
        metadata: of the data set: names and colours of the classes.
        threshold: instances with a lower score are not drawn.
        task: "panoptic", "instance" or "semantic"; the first of them that the output has when None.

    Raises:
        ValueError: the output has no result of this task.
    """
    result = output[RESULTS[choose_task(output, RESULTS, task, "the model's output")]]
    if isinstance(result, Instances):
        regions = instance_regions(result, metadata, threshold)
    elif isinstance(result, tuple):
        ids, segments = result
        regions = panoptic_regions(ids, segments, metadata)
    else:
        regions = semantic_regions(result, metadata)
    return draw_regions(picture, regions)


def draw_ground_truth(record: dict[str, Any], metadata: Metadata, task: str | None = None) -> Picture:
    """Paint the annotation of a data set dict over its picture.

    Args:
        record: with ``file_name`` and the annotation of one of the tasks.
        metadata, task: as in :func:`draw_result`.

    Raises:
        ValueError: it has no annotation of this task, or one that is not right.
    """
    return _draw_annotation(read_picture(record["file_name"], "RGB"), record, metadata, task)


def _draw_annotation(picture: Picture, record: dict[str, Any], metadata: Metadata, task: str | None) -> Picture:
    task = choose_task(record, ANNOTATIONS, task, str(record["file_name"]))
    size = (picture.shape[0], picture.shape[1])
    num_classes = len(metadata.get("thing_classes" if task == "instance" else "stuff_classes"))
    readers: dict[str, Callable[[], Objects]] = {
        "panoptic": lambda: panoptic_objects(record, size, num_classes),
        "instance": lambda: instance_objects(record, size, num_classes),
        "semantic": lambda: semantic_objects(record, size, num_classes, metadata.get("ignore_label", 255)),
    }
    classes, masks = readers[task]().to_masks()
    things = set(metadata.get("thing_dataset_id_to_contiguous_id", {}).values()) if task != "semantic" else set()
    found = zip(classes.tolist(), masks.numpy(), strict=True)
    return draw_regions(picture, [_region(mask, number, number in things, metadata) for number, mask in found])


def choose_task(found: dict[str, Any], keys: dict[str, str], wanted: str | None, where: str) -> str:
    """The wanted task, or the first one whose key is found.

    Raises:
        ValueError: there is none.
    """
    tasks = [task for task, key in keys.items() if key in found]
    if not tasks or wanted not in (None, *tasks):
        raise ValueError(
            f"{where} has nothing to draw for {wanted or 'any task'}: found {sorted(found)}. "
            f"A model gives what MODEL.MASK_FORMER.TEST.*_ON switches on; a data set what it was registered with."
        )
    return wanted or tasks[0]


def panoptic_regions(ids: Tensor, segments: Iterable[dict[str, Any]], metadata: Metadata) -> list[Region]:
    """Regions of ``panoptic_seg``: ids int [H, W] and segments with ``id, isthing, category_id``."""
    numbers = ids.cpu().numpy()
    return [_region(numbers == s["id"], s["category_id"], bool(s["isthing"]), metadata) for s in segments]


def instance_regions(instances: Instances, metadata: Metadata, threshold: float = 0.5) -> list[Region]:
    """Regions of ``instances`` whose score is not below the threshold."""
    kept = instances[instances.scores >= threshold].to("cpu")
    found = zip(kept.pred_masks.numpy(), kept.pred_classes.tolist(), kept.scores.tolist(), strict=True)
    return [_region(mask.astype(bool), number, True, metadata, score) for mask, number, score in found]


def semantic_regions(scores: Tensor, metadata: Metadata) -> list[Region]:
    """Regions of ``sem_seg``, float [K, H, W]: one for each class that is the best somewhere."""
    best = scores.argmax(dim=0).cpu().numpy()
    return [_region(best == number, number, False, metadata) for number in np.unique(best).tolist()]


def _region(mask: np.ndarray, number: int, isthing: bool, metadata: Metadata, score: float | None = None) -> Region:
    kind = "thing" if isthing else "stuff"
    names, colours = metadata.get(f"{kind}_classes", ()), metadata.get(f"{kind}_colors", ())
    palette = colormap(rgb=True, maximum=255)
    colour = colours[number] if number < len(colours) else palette[number % len(palette)]
    name = names[number] if number < len(names) else str(number)
    return Region(mask, name, np.asarray(colour, np.uint8), isthing, score)


def draw_regions(picture: Picture, regions: Sequence[Region]) -> Picture:
    """Paint regions over a picture, in the colours of their classes, with outlines and labels.

    Stuff is painted first, then things, the large ones before the small. Things of one class differ in brightness.

    Returns:
        The picture, enlarged by a whole factor if it is small.
    """
    factor = enlargement(picture)
    canvas = _enlarge(picture, factor, cv2.INTER_CUBIC).astype(np.float32)
    ordered = sorted(regions, key=lambda region: (region.isthing, -int(region.mask.sum())))
    labels: list[tuple[str, tuple[float, float]]] = []
    for number, region in enumerate(ordered):
        if not region.mask.any():
            continue
        mask = _enlarge(region.mask.astype(np.uint8), factor, cv2.INTER_NEAREST)
        depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        colour = _shade(region.colour, number) if region.isthing else region.colour.astype(np.float32)
        inside, edge = mask.astype(bool), (depth > 0) & (depth < 1.5)
        canvas[inside] += (colour - canvas[inside]) * OPACITY
        canvas[edge] = 0.35 * colour + 0.65 * (255 if region.isthing else colour)
        if region.isthing or region.mask.mean() >= LEAST_LABELLED:
            # The label lies where the region is widest, and so inside it.
            y, x = np.unravel_index(int(depth.argmax()), depth.shape)
            labels.append((region.label, (float(x), float(y))))
    writer = Visualizer(np.clip(canvas, 0, 255).astype(np.uint8))
    for text, place in labels:
        writer.draw_text(text, place, font_size=9, color="w")
    return writer.output.get_image()


def enlargement(picture: Picture) -> int:
    """The whole factor by which a picture is enlarged before it is drawn on."""
    return max(1, round(LEAST_SIDE / min(picture.shape[:2])))


def _enlarge(picture: np.ndarray, factor: int, interpolation: int) -> np.ndarray:
    if factor == 1:
        return picture
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=interpolation)


def _shade(colour: np.ndarray, number: int) -> np.ndarray:
    """The colour, lighter or darker by up to a third; neighbouring numbers get shades that differ much."""
    share = (0.618 * number) % 1.0 * 0.66 - 0.33
    towards = 255.0 if share > 0 else 0.0
    return (colour + (towards - colour.astype(np.float32)) * abs(share)).astype(np.float32)


def side_by_side(picture: Picture, ground_truth: Picture | None, prediction: Picture) -> Picture:
    """Picture, ground truth (if there is one) and prediction in a row, with captions.

    The picture may be of the original size; it is enlarged to that of the prediction.
    """
    height, width = prediction.shape[:2]
    plain = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)
    panels = [("picture", plain), ("ground truth", ground_truth), ("prediction", prediction)]
    return np.concatenate([_captioned(panel, text) for text, panel in panels if panel is not None], axis=1)


def _captioned(picture: Picture, text: str) -> Picture:
    """The picture with a white border and a caption above it."""
    framed = cv2.copyMakeBorder(picture, 24, 4, 4, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    return cv2.putText(framed, text, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA)


def contact_sheet(pictures: Sequence[Picture], columns: int | None = None) -> Picture:
    """Pictures in rows and columns on white; smaller ones are not enlarged.

    Args:
        pictures: at least one.
        columns: as many as make the sheet about square when None.
    """
    if not pictures:
        raise ValueError("contact_sheet needs at least one picture.")
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    columns = columns or max(1, round(math.sqrt(len(pictures) * height / width)))
    rows = math.ceil(len(pictures) / columns)
    sheet = np.full((rows * height, min(columns, len(pictures)) * width, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def save_comparisons(
    results: Iterable[tuple[dict[str, Any], dict[str, Any]]],
    metadata: Metadata,
    folder: str | Path,
    threshold: float = 0.5,
    task: str | None = None,
    sheet_rows: int = 8,
) -> list[Path]:
    """Write predictions over pictures beside the ground truth, and a sheet of the first ones.

    Args:
        results: (data set dict, output of the model for its picture); may be a generator that runs the model.
        metadata, threshold, task: as in :func:`draw_result`.
        folder: made if it is not there.
        sheet_rows: comparisons on ``contact_sheet.png``; 0 for no sheet.

    Returns:
        The files: the sheet first, then one for each picture, of the picture's name.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    first: list[Picture] = []
    for record, output in results:
        picture = read_picture(record["file_name"], "RGB")
        chosen = choose_task(output, RESULTS, task, "the model's output")
        comparison = side_by_side(
            picture,
            _draw_annotation(picture, record, metadata, chosen),
            draw_result(picture, output, metadata, threshold, chosen),
        )
        if len(first) < sheet_rows:
            first.append(comparison)
        files.append(save_picture(folder / f"{Path(record['file_name']).stem}.png", comparison))
    if first:
        files.insert(0, save_picture(folder / "contact_sheet.png", contact_sheet(first, columns=1)))
    return files


def save_picture(file: Path, picture: Picture) -> Path:
    """Write a picture in the format of the file's suffix.

    Raises:
        OSError: it cannot be written.
    """
    if not cv2.imwrite(str(file), np.ascontiguousarray(picture[:, :, ::-1])):
        raise OSError(f"{file}: the picture cannot be written. Is the folder writable and the disk not full?")
    return file
