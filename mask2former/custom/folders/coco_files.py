"""COCO files in folders as Roboflow, CVAT and COCO lay them out, or alone among their images."""

from __future__ import annotations

import json
import mmap
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mask2former.custom.folders.folder import TRAIN, FolderData, from_splits, split_of_file, split_of_folder, subfolders
from mask2former.custom.folders.image_files import find_listed
from mask2former.custom.source import DataError, DataSource, detect_format
from mask2former.data.datasets.readers import with_suffix
from mask2former.files import write_text

MOST_JSON = 50  # files looked into, a folder and its subfolders; others hold one for each image
_KEYS = (b'"images"', b'"annotations"', b'"category_id"')


def coco_files(root: Path) -> list[Path]:
    """Return the files in a folder and in its subfolders that have COCO's keys."""
    found = []
    for folder in (root, *subfolders(root)):
        files = sorted(with_suffix(folder.iterdir(), (".json",)))
        found += [file for file in files if _has_keys(file)] if len(files) <= MOST_JSON else []
    return found


def read_coco_folder(root: Path, files: list[Path], out: Path) -> FolderData:
    """Read a folder with COCO files.

    Args:
        root: the folder.
        files: of :func:`coco_files`.
        out: folder for copies with other file names.

    Raises:
        DataError: several files for one split, none for training, or images that are not found.
    """
    by_split: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        of_folder = split_of_folder(file.parent.name) if file.parent != root else None
        by_split[split_of_file(file.stem) or of_folder or TRAIN].append(file)
    if len(by_split) == 1:  # all that there is, whatever it is called
        by_split = {TRAIN: [file for files in by_split.values() for file in files]}
    chosen = {split: _one_of(split, files) for split, files in by_split.items()}
    notes: list[str] = []
    parts = {}
    for split, file in chosen.items():
        source = detect_format([str(file), str(root)])
        parts[split], said = locate(source, _image_folders(root, file, split), root, out / f"{split}.json")
        notes += said
        others = [str(other) for other in by_split[split] if other != file]
        notes += [f"{file} is read, and not {', '.join(others)}: to have another, give it and its images."] * bool(
            others
        )
    listed = ", ".join(str(file.relative_to(root)) for file in chosen.values())
    data = from_splits(root, f"COCO files ({listed})", parts)
    data.notes.extend(notes)
    return data


def locate(source: DataSource, candidates: list[Path], root: Path, copy: Path) -> tuple[DataSource, list[str]]:
    """Return a COCO file with the folder of its images, and lines for the user.

    Args:
        source: the COCO file.
        candidates: folders that may be the images'.
        root: where else to look for them, below.
        copy: written in place of a file whose file names lead nowhere.

    Raises:
        DataError: no image is found.
    """
    file, content = str(source.annotations), source.content()
    images = content.get("images")
    images = [image for image in images if isinstance(image, dict)] if isinstance(images, list) else []
    names = [image.get("file_name") for image in images]
    folder, changed, note = find_listed(file, names, candidates, root, split_of_file(Path(file).stem))
    if changed:
        _write_renamed(content, changed, copy)
        file = str(copy)
    return DataSource(source.kind, str(folder), file, source.pngs), [note] if note else []


def _write_renamed(content: Mapping[str, Any], changed: Mapping[Any, str], copy: Path) -> None:
    renamed = []
    for image in content["images"]:
        name = image.get("file_name") if isinstance(image, dict) else None
        renamed.append({**image, "file_name": changed[name]} if isinstance(name, str) and name in changed else image)
    copy.parent.mkdir(parents=True, exist_ok=True)
    write_text(copy, json.dumps({**content, "images": renamed}))


def _one_of(split: str, files: list[Path]) -> Path:
    """Choose the file of objects where there are others, such as key points, beside it."""
    objects = [file for file in files if file.name.startswith("instances")] if len(files) > 1 else files
    if len(objects) != 1:
        listed = ", ".join(str(file) for file in files)
        raise DataError(f"There are several COCO files for {split}: {listed}. Give one, and the folder of its images.")
    return objects[0]


def _image_folders(root: Path, file: Path, split: str) -> list[Path]:
    """Return the folders that may hold the images of a file, the likeliest first."""
    own = [file.parent] if file.parent != root else []
    named = [folder for place in (root / "images", root) if place.is_dir() for folder in subfolders(place)]
    alike = [folder for folder in named if split_of_folder(folder.name) == split or folder.name == "default"]
    return [*own, *alike, file.parent / "images", root / "images", root]


def _has_keys(file: Path) -> bool:
    if not file.stat().st_size:
        return False
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return all(content.find(key) >= 0 for key in _KEYS)
