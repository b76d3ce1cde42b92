"""Arrange drawn images side by side and in rows, and write them to files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data.catalog import Metadata

from mask2former.data.images.read import read_image
from mask2former.visualization.painting import draw_regions
from mask2former.visualization.regions import (
    INSTANCE_THRESHOLD,
    RESULTS,
    ImageArray,
    annotation_regions,
    choose_task,
    result_regions,
)
from mask2former.visualization.save_image import free_file, save_image


def draw_result(
    image: ImageArray,
    output: dict[str, Any],
    metadata: Metadata,
    threshold: float = INSTANCE_THRESHOLD,
    task: str | None = None,
) -> ImageArray:
    """Draw a model's output over its image.

    Args:
        image: [H, W, 3] uint8, RGB, of the output's size.
        output: dict with ``panoptic_seg``, ``instances``, ``sem_seg`` or ``sem_seg_labels``.
        metadata: metadata of the data set, with names and colours of the classes.
        threshold: instances with a lower score are not drawn.
        task: "panoptic", "instance" or "semantic"; if None, the first of them that the output has.

    Raises:
        ValueError: the output has no result of this task.
    """
    return draw_regions(image, result_regions(output, metadata, threshold, task))


def draw_ground_truth(record: dict[str, Any], metadata: Metadata, task: str | None = None) -> ImageArray:
    """Draw the annotation of a data set dict over its image.

    Args:
        record: dict with ``file_name`` and the annotation of one of the tasks.
        metadata, task: as in :func:`draw_result`.

    Raises:
        ValueError: there is no annotation of this task, or it is invalid.
    """
    return _draw_annotation(read_image(record["file_name"], "RGB"), record, metadata, task)


def _draw_annotation(image: ImageArray, record: dict[str, Any], metadata: Metadata, task: str | None) -> ImageArray:
    height, width = image.shape[:2]
    return draw_regions(image, annotation_regions(record, (height, width), metadata, task))


def side_by_side(image: ImageArray, ground_truth: ImageArray | None, prediction: ImageArray) -> ImageArray:
    """Put image, ground truth (if there is one) and prediction in a row, with captions.

    The image may be of the original size; it is enlarged to that of the prediction.
    """
    height, width = prediction.shape[:2]
    plain = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    panels = [("image", plain), ("ground truth", ground_truth), ("prediction", prediction)]
    return np.concatenate([_captioned(panel, text) for text, panel in panels if panel is not None], axis=1)


def _captioned(image: ImageArray, text: str) -> ImageArray:
    """Add a white border and a caption above."""
    framed = cv2.copyMakeBorder(image, 24, 4, 4, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    return cv2.putText(framed, text, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA)


def contact_sheet(images: Sequence[ImageArray], columns: int | None = None) -> ImageArray:
    """Put images in rows and columns on white; smaller ones are not enlarged.

    Args:
        images: at least one.
        columns: number of columns; if None, as many as make the sheet about square.
    """
    if not images:
        raise ValueError("contact_sheet needs at least one image.")
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    columns = columns or max(1, round(math.sqrt(len(images) * height / width)))
    rows = math.ceil(len(images) / columns)
    sheet = np.full((rows * height, min(columns, len(images)) * width, 3), 255, np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def save_comparisons(
    results: Iterable[tuple[dict[str, Any], dict[str, Any]]],
    metadata: Metadata,
    folder: str | Path,
    threshold: float = INSTANCE_THRESHOLD,
    task: str | None = None,
    sheet_rows: int = 8,
) -> list[Path]:
    """Write drawn predictions beside the ground truth, and a sheet of the first ones.

    Args:
        results: (data set dict, output of the model for its image); may be a generator that runs the model.
        metadata, threshold, task: as in :func:`draw_result`.
        folder: where to write; created if missing.
        sheet_rows: comparisons on ``contact_sheet.png``; 0 for no sheet.

    Returns:
        The files: the sheet first, then one for each image, named like it, with a number appended if several images
        have one name.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sheet = folder / "contact_sheet.png"
    taken = {sheet} if sheet_rows else set()
    files: list[Path] = []
    first: list[ImageArray] = []
    for record, output in results:
        image = read_image(record["file_name"], "RGB")
        chosen = choose_task(output, RESULTS, task, "the model's output")
        comparison = side_by_side(
            image,
            _draw_annotation(image, record, metadata, chosen),
            draw_result(image, output, metadata, threshold, chosen),
        )
        if len(first) < sheet_rows:
            first.append(comparison)
        file = free_file(folder / f"{Path(record['file_name']).stem}.png", taken)
        taken.add(file)
        files.append(save_image(file, comparison))
    if first:
        files.insert(0, save_image(sheet, contact_sheet(first, columns=1)))
    return files
