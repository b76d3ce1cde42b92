"""Drawn pictures beside each other, in rows, and in files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data.catalog import Metadata

from mask2former.data.mapper.image_io import read_picture
from mask2former.visualization.painting import draw_regions
from mask2former.visualization.regions import (
    INSTANCE_THRESHOLD,
    RESULTS,
    Picture,
    annotation_regions,
    choose_task,
    result_regions,
)
from mask2former.visualization.save_image import free_file, save_picture


def draw_result(
    picture: Picture,
    output: dict[str, Any],
    metadata: Metadata,
    threshold: float = INSTANCE_THRESHOLD,
    task: str | None = None,
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
    return draw_regions(picture, result_regions(output, metadata, threshold, task))


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
    height, width = picture.shape[:2]
    return draw_regions(picture, annotation_regions(record, (height, width), metadata, task))


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
    threshold: float = INSTANCE_THRESHOLD,
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
        The files: the sheet first, then one for each picture, of the picture's name; with a number behind it where
        several pictures have the same.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sheet = folder / "contact_sheet.png"
    taken = {sheet} if sheet_rows else set()
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
        file = free_file(folder / f"{Path(record['file_name']).stem}.png", taken)
        taken.add(file)
        files.append(save_picture(file, comparison))
    if first:
        files.insert(0, save_picture(sheet, contact_sheet(first, columns=1)))
    return files
