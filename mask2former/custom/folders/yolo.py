"""Folders of YOLO's segmentation form: data.yaml, and a text file for each image with a line for each object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mask2former.custom.folders.coco_writer import CocoWriter
from mask2former.custom.folders.folder import FolderData, from_splits, read_small
from mask2former.custom.folders.image_files import ImageFiles, name_parts
from mask2former.custom.source import DataError, DataSource
from mask2former.data.datasets.readers import IMAGE_SUFFIXES, with_suffix
from mask2former.data.images.read import file_size

MOST_YAML, MOST_TEXT = 1 << 20, 64 << 20  # bytes of a file
KEYS = {"train": "train", "val": "val", "test": "test"}


def yolo_file(root: Path) -> Path | None:
    """Return the file that lists a folder's images and classes; None if there is none."""
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (root / name).is_file():
            return root / name
    return None


def read_yolo_folder(root: Path, file: Path, out: Path) -> FolderData:
    """Convert a folder to COCO files. Lines of four numbers are boxes alone, those of more are polygons.

    Args:
        root: the folder; nothing outside of it is read.
        file: its data.yaml.
        out: folder for the COCO files.

    Raises:
        DataError: a file that is broken, folders that are not found, or a class that has no name.
    """
    content = _read_yaml(file)
    names = _names(content.get("names"), file)
    parts = {}
    if not any(content.get(key) for key in KEYS):
        content = {**content, **_by_folders(root)}
    for key, split in KEYS.items():
        if content.get(key) and (images := _images(root, content, key, file)):
            parts[split] = _convert(root, images, names, out / f"{split}.json")
    return from_splits(root, f"YOLO's files, by {file.name}", parts)


def _read_yaml(file: Path) -> Mapping[str, Any]:
    text = read_small(file, MOST_YAML)
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.BaseLoader)):
            raise DataError(f"{file}: it repeats parts of itself (*name), which may have no end; write them out.")
        content = yaml.load(text, Loader=yaml.BaseLoader)  # all values are texts: "no" may be a class
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{file}: not a yaml file ({error}).") from error
    if not isinstance(content, dict):
        raise DataError(f"{file}: found a {type(content).__name__}; it has to have the keys names and train.")
    return content


def _names(found: Any, file: Path) -> list[str]:
    """Return the names of the classes, which are a list, or a table by number without holes."""
    if isinstance(found, dict) and found.keys() == {str(number) for number in range(len(found))}:
        found = [found[str(number)] for number in range(len(found))]
    if not isinstance(found, list) or not found or not all(isinstance(name, str) for name in found):
        raise DataError(f"{file}: 'names' is {found!r:.100}; it has to list the names of the classes 0, 1, 2, ...")
    names: list[str] = found
    if len(set(names)) < len(names):
        raise DataError(f"{file}: 'names' has a name twice: {sorted(name for name in names if names.count(name) > 1)}.")
    return names


def _images(root: Path, content: Mapping[str, Any], key: str, file: Path) -> list[str]:
    """Return the images of a split, relative to the root."""
    value = content[key]
    found: list[str] = []
    for one in value if isinstance(value, list) else [value]:
        parts = name_parts(one)
        # Written for other machines: "../train/images" and absolute paths are tried from each of their parts on.
        tries = [root.joinpath(*parts[first:]) for first in range(len(parts))]
        place = next((place for place in tries if place.exists()), None)
        if place is None:
            raise DataError(f"{file}: {key!r} is {one!r:.200}, which is not in {root}. Correct the file.")
        if place.is_dir():
            files = sorted(with_suffix(place.rglob("*"), IMAGE_SUFFIXES))
            found += [path.relative_to(root).as_posix() for path in files]
        else:
            found += _listed(root, place, key)
    return found


def _by_folders(root: Path) -> dict[str, str]:
    """Return the splits by the usual folders, for a file with names alone, as the package supervision writes it."""
    named = {key: f"images/{key}" for key in KEYS if (root / "images" / key).is_dir()}
    return named or ({"train": "images"} if (root / "images").is_dir() else {})


def _listed(root: Path, file: Path, near: str) -> list[str]:
    index, found = ImageFiles(root), []
    for number, line in enumerate(read_small(file, MOST_TEXT).splitlines(), start=1):
        if line.strip():
            place = index.find(line.strip(), near)
            if place is None:
                raise DataError(f"{file}, line {number}: {line.strip()!r:.200} is not below {root}.")
            found.append(place)
    return found


def _convert(root: Path, images: list[str], names: list[str], out: Path) -> DataSource:
    writer, labelled = CocoWriter(names), 0
    for image in images:
        height, width = file_size(str(root / image))
        writer.add_image(image, (height, width))
        file = _label_file(root, image)
        if not file.is_file():
            continue  # an image without objects
        labelled += 1
        for number, line in enumerate(read_small(file, MOST_TEXT).splitlines(), start=1):
            if line.strip():
                _add_object(writer, line.split(), (height, width), len(names), f"{file}, line {number}")
    if not labelled:
        raise DataError(f"None of the {len(images)} images has a label file, such as {_label_file(root, images[0])}.")
    return writer.write(out, root)


def _label_file(root: Path, image: str) -> Path:
    """Return where an image's label file is: the folder "labels" stands in place of the last one "images"."""
    parts = list(Path(image).parts)
    if "images" in parts[:-1]:
        place = len(parts) - 2 - parts[:-1][::-1].index("images")
        parts[place] = "labels"
    return root.joinpath(*parts).with_suffix(".txt")


def _add_object(writer: CocoWriter, words: list[str], size: tuple[int, int], classes: int, where: str) -> None:
    try:
        number, values = int(float(words[0])), [float(word) for word in words[1:]]
    except ValueError as error:
        raise DataError(f"{where}: {error}; a line is a class and numbers between 0 and 1.") from error
    if not 0 <= number < classes:
        raise DataError(f"{where}: class {number}, but data.yaml names {classes}, from 0 to {classes - 1}.")
    if not all(math.isfinite(value) and -0.01 <= value <= 1.01 for value in values):
        raise DataError(f"{where}: places are shares of the image's sides, so they have to be between 0 and 1.")
    height, width = size
    if len(values) == 4:
        x, y, w, h = (value * side for value, side in zip(values, (width, height) * 2, strict=True))
        writer.add_object(number, box=(x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    elif len(values) >= 6 and len(values) % 2 == 0:
        polygon = [value * (width if place % 2 == 0 else height) for place, value in enumerate(values)]
        writer.add_object(number, [polygon])
    else:
        raise DataError(f"{where}: {len(values)} numbers behind the class; a box has 4, a polygon 6, 8, 10, ...")
