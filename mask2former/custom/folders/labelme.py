"""Folders of labelme: a json for each image, with the shapes drawn in it."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from mask2former.custom.folders.coco_writer import CocoWriter
from mask2former.custom.folders.folder import TRAIN, FolderData, from_splits, read_small, split_of_folder, subfolders
from mask2former.custom.folders.image_files import ImageFiles, name_parts
from mask2former.custom.source import DataError
from mask2former.data.datasets.readers import with_suffix
from mask2former.data.images.read import file_size, image_from_bytes
from mask2former.data.rle.encode import encode_masks

MOST_BYTES = 256 << 20  # of a file, which may hold its image too
CORNERS = 64  # of the polygon that a circle becomes
NO_AREA = ("point", "line", "linestrip", "points")
Json = dict[str, Any]


def labelme_files(root: Path) -> list[Path]:
    """Return labelme's files in a folder and in its subfolders; none if the first json is not one."""
    files = [file for folder in (root, *subfolders(root)) for file in sorted(with_suffix(folder.iterdir(), (".json",)))]
    return files if files and "shapes" in _read(files[0]) else []


def read_labelme_folder(root: Path, files: list[Path], out: Path) -> FolderData:
    """Convert a folder of labelme's files to COCO files.

    Polygons, circles and masks are objects, those with the same ``group_id`` one; rectangles are boxes alone; points
    and lines are left out.

    Args:
        root: the folder.
        files: of :func:`labelme_files`.
        out: folder for the COCO files.

    Raises:
        DataError: a file that is broken, an image that is not found, or of another size than its file says.
    """
    contents = {file: _read(file) for file in files}
    contents = {file: content for file, content in contents.items() if "shapes" in content}
    names = sorted({_label(shape, file) for file, content in contents.items() for shape in _shapes(content, file)})
    numbers = {name: number for number, name in enumerate(names)}
    index, left_out = ImageFiles(root), Counter[str]()
    writers: dict[str, CocoWriter] = {}
    for file, content in contents.items():
        split = (split_of_folder(file.parent.name) if file.parent != root else None) or TRAIN
        writer = writers.setdefault(split, CocoWriter(names))
        place = _image(root, file, content.get("imagePath"), index)
        if place is None:
            raise DataError(f"{file}: its image {content.get('imagePath')!r:.200} is not below {root}.")
        size = file_size(str(root / place))
        stated = (content.get("imageHeight"), content.get("imageWidth"))
        if None not in stated and stated != size:
            raise DataError(f"{file}: it is of an image of (height, width) {stated}, but {place} has {size}.")
        writer.add_image(place, size)
        _add_objects(writer, content, file, size, numbers, left_out)
    parts = {split: writer.write(out / f"{split}.json", root) for split, writer in writers.items()}
    data = from_splits(root, f"labelme's files, {len(contents)}", parts)
    data.notes.extend(
        f"warning: {count} of shape {kind!r} are left out: they have no area." for kind, count in left_out.items()
    )
    return data


def _add_objects(
    writer: CocoWriter,
    content: Json,
    file: Path,
    size: tuple[int, int],
    numbers: dict[str, int],
    left_out: Counter[str],
) -> None:
    groups: dict[Any, tuple[int, list[list[float]]]] = {}
    for position, shape in enumerate(_shapes(content, file)):
        kind, number = shape.get("shape_type") or "polygon", numbers[_label(shape, file)]
        if kind in NO_AREA:
            left_out[kind] += 1
            continue
        points = _points(shape, file)
        if kind == "rectangle":
            (x0, y0), (x1, y1) = _corners(points)
            writer.add_object(number, box=(x0, y0, x1, y1))
        elif kind == "mask":
            writer.add_object(number, _mask(shape, points, file, size))
        elif kind in ("polygon", "circle"):
            polygon = points if kind == "polygon" else _circle(points, file)
            group = shape.get("group_id")
            key = (number, group) if isinstance(group, int | str) else (number, None, position)
            groups.setdefault(key, (number, []))[1].append([value for point in polygon for value in point])
        else:
            raise DataError(f"{file}: shape {position} is a {kind!r:.40}, which is not known.")
    for number, polygons in groups.values():
        writer.add_object(number, polygons)


def _image(root: Path, file: Path, name: Any, index: ImageFiles) -> str | None:
    """Return the path of a file's image below the root: beside it, or wherever it is."""
    beside = file.parent / (name_parts(name) or ("",))[-1]
    return beside.relative_to(root).as_posix() if beside.is_file() else index.find(name)


def _read(file: Path) -> Json:
    try:
        content = json.loads(read_small(file, MOST_BYTES))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: not a json file ({error}). Is it complete?") from error
    return content if isinstance(content, dict) else {}


def _shapes(content: Json, file: Path) -> list[Json]:
    shapes = content["shapes"]
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise DataError(f"{file}: 'shapes' has to be a list of objects.")
    return shapes


def _label(shape: Json, file: Path) -> str:
    label = shape.get("label")
    if not isinstance(label, str) or not label:
        raise DataError(f"{file}: a shape has the label {label!r:.40}; it has to be a text.")
    return label


def _points(shape: Json, file: Path) -> list[tuple[float, float]]:
    try:
        points = [(float(x), float(y)) for x, y in shape["points"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: 'points' of a shape has to be a list of pairs of numbers ({error!r}).") from error
    if not points or not all(math.isfinite(value) for point in points for value in point):
        raise DataError(f"{file}: 'points' of a shape is empty, or holds a number that is not finite.")
    return points


def _corners(points: list[tuple[float, float]]) -> tuple[tuple[float, float], tuple[float, float]]:
    xs, ys = zip(*points, strict=True)
    return (min(xs), min(ys)), (max(xs), max(ys))


def _circle(points: list[tuple[float, float]], file: Path) -> list[tuple[float, float]]:
    """Return the polygon of a circle, which is given by its centre and a point on it."""
    if len(points) != 2:
        raise DataError(f"{file}: a circle has {len(points)} points; it has to have 2, the centre and one on it.")
    (x, y), edge = points
    radius = math.dist((x, y), edge)
    turns = [2 * math.pi * step / CORNERS for step in range(CORNERS)]
    return [(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns]


def _mask(shape: Json, points: list[tuple[float, float]], file: Path, size: tuple[int, int]) -> Json:
    """Return the run lengths of a mask, which is a png of the rectangle that the points span."""
    try:
        content = base64.b64decode(str(shape.get("mask")), validate=True)
    except binascii.Error as error:
        raise DataError(f"{file}: the mask of a shape is not base64 ({error}).") from error
    part = image_from_bytes(content, f"{file}, mask of {shape['label']!r:.40}", "L")[:, :, 0] > 0
    (x, y), _ = _corners(points)
    left, top = round(x), round(y)
    whole = np.zeros(size, bool)
    if left < 0 or top < 0 or top + part.shape[0] > size[0] or left + part.shape[1] > size[1]:
        raise DataError(f"{file}: the mask of {shape['label']!r:.40} leaves the image.")
    whole[top : top + part.shape[0], left : left + part.shape[1]] = part
    (code,) = encode_masks(whole[None])
    return code
