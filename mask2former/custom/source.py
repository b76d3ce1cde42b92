"""The user's data: a COCO file with its folders, or two folders; and the classes in them."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mask2former.data.coco.categories import read_categories
from mask2former.data.coco.faults import FirstFault
from mask2former.data.coco.file import load_json
from mask2former.data.coco.videos import lists_videos
from mask2former.data.datasets.categories import Category
from mask2former.data.datasets.readers import IMAGE_SUFFIXES, LABEL_SUFFIXES, with_suffix
from mask2former.data.video_forms import has_video_ids, mots_form

FORMS = (
    "  objects (COCO):        annotations.json images/\n"
    "  panoptic (COCO):       panoptic.json images/ panoptic_pngs/\n"
    "  classes of pixels:     images/ labels/   (label files named as the images, holding class numbers)\n"
    "  tracks in videos:      videos.json frames/               (YouTube-VIS)\n"
    "                         annotations.json images/          (COCO; images have video_id, objects track_id)\n"
    "                         images/ instances[_txt]/          (MOTS; a folder of frames for each video)"
)
GOLDEN = 0.618034  # turns of the colour circle from one class to the next (golden ratio): colours never repeat


class DataError(ValueError):
    """Raised for data that cannot be trained on; the message says what was found and what to do."""


@dataclass(frozen=True)
class DataSource:
    """Images and their annotations.

    Attributes:
        kind: "instance", "panoptic", "semantic" or "video".
        images: folder of the images, or of the videos' frames.
        annotations: COCO's or YouTube-VIS's json; None for "semantic".
        pngs: folder of panoptic pngs, of label files, or of MOTS's labels; None for others.
        form: of tracks that are not in the form of YouTube-VIS: "COCO with video ids", "MOTS png" or "MOTS txt".
    """

    kind: str
    images: str
    annotations: str | None = None
    pngs: str | None = None
    form: str = ""

    def content(self) -> Mapping[str, Any]:
        """Read the annotation file."""
        return load_json(str(self.annotations), FirstFault(DataError))

    def __str__(self) -> str:
        return " ".join(part for part in (self.annotations, self.images, self.pngs) if part)


def detect_format(paths: Sequence[str]) -> DataSource:
    """Detect the kind of data at ``paths``; :data:`FORMS` lists the accepted forms.

    Raises:
        DataError: a path does not exist, or the paths have none of these forms.
    """
    for path in paths:
        if not Path(path).exists():
            raise DataError(f"{path}: no such file or folder.")
    files = [path for path in paths if Path(path).is_file()]
    folders = [path for path in paths if Path(path).is_dir()]
    if not files and len(folders) == 2:
        return _semantic(*folders)
    if len(files) == 1 and files[0].endswith(".json") and 1 <= len(folders) <= 2:
        return _coco(files[0], folders)
    raise DataError(f"Give the data in one of these forms:\n{FORMS}\nfound: {' '.join(paths) or 'nothing'}")


def _semantic(images: str, labels: str) -> DataSource:
    if not _holds(images, IMAGE_SUFFIXES) and (form := mots_form(images, labels)):
        return DataSource("video", images, pngs=labels, form=f"MOTS {form}")
    if not _holds(labels, LABEL_SUFFIXES):
        raise DataError(
            f"{labels} holds no label files ({', '.join(LABEL_SUFFIXES)}). The folder of images comes first, the "
            "folder of labels second."
        )
    if not _holds(images, IMAGE_SUFFIXES):
        raise DataError(f"{images} holds no images ({', '.join(IMAGE_SUFFIXES)}).")
    return DataSource("semantic", images, pngs=labels)


def _coco(file: str, folders: list[str]) -> DataSource:
    content = load_json(file, FirstFault(DataError))
    if lists_videos(content):
        if len(folders) == 2:
            raise DataError(f"{file} lists videos: give only the folder of their frames with it.")
        return DataSource("video", folders[0], file)
    annotations = content.get("annotations")
    if not isinstance(annotations, list) or not isinstance(content.get("images"), list):
        raise DataError(f"{file}: found the keys {sorted(content)}; a COCO file has 'images' and 'annotations'.")
    panoptic = any(isinstance(entry, dict) and "segments_info" in entry for entry in annotations)
    if not panoptic:
        if len(folders) == 2:
            raise DataError(f"{file} holds objects, not panoptic segments: give only the image folder with it.")
        if has_video_ids(content):
            return DataSource("video", folders[0], file, form="COCO with video ids")
        return DataSource("instance", folders[0], file)
    # COCO keeps them beside the json, in a folder of the same name.
    beside = Path(file).with_suffix("")
    pngs = folders[1] if len(folders) == 2 else str(beside)
    if not Path(pngs).is_dir():
        raise DataError(f"{file} is a panoptic file: give the folder of its pngs last, after the image folder.")
    return DataSource("panoptic", folders[0], file, pngs)


def coco_categories(source: DataSource) -> list[Category]:
    """Return the classes that a COCO file lists, by ascending id, with colours.

    Raises:
        DataError: no class, an id or a name twice, or (panoptic) a class that does not say whether it is a thing.
    """
    panoptic = source.kind == "panoptic"
    return with_colours(read_categories(source.content(), str(source.annotations), panoptic, FirstFault(DataError)))


def with_colours(categories: Sequence[Mapping[str, Any]]) -> list[Category]:
    """Give each category a ``color``: its own if all have one, else one from a palette without end."""
    own = all(_is_colour(category.get("color")) for category in categories)
    return [
        {
            "id": category["id"],
            "name": str(category["name"]),
            "isthing": category["isthing"],
            "color": list(category["color"]) if own else _palette(number),
        }
        for number, category in enumerate(categories)
    ]


def _palette(number: int) -> list[int]:
    shade = (0.95, 0.75, 0.55)[number % 3]
    return [round(255 * part) for part in colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.75, shade)]


def _is_colour(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(v, int) for v in value)


def _holds(folder: str, suffixes: tuple[str, ...]) -> bool:
    return any(True for _ in with_suffix(Path(folder).iterdir(), suffixes))
