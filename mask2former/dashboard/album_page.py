"""Prepare an album for the page: small copies of its images, each once, and what each shows."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2

from mask2former.dashboard.album import Album, Entry
from mask2former.dashboard.error_types import KINDS, MEANINGS
from mask2former.dashboard.gallery import shrunk
from mask2former.dashboard.marks import CORRECT, MOST_PAIRS, Mark
from mask2former.dashboard.overlay import png_uri
from mask2former.dashboard.pages import jpeg_uri
from mask2former.data.images.read import read_image

logger = logging.getLogger(__name__)
ALBUM_BYTES = 10_000_000  # limit of all that the album adds to a page; the images beyond it are left out
LONGEST_SIDE = 360  # pixels, of an image in the album
QUALITY = 72  # of its JPEG
_THREADS = 4  # that read images: decoding is most of the time, and OpenCV does it without Python's lock
_AT_ONCE = 32  # images read ahead, so that few wait in memory when the page is full


def album_context(albums: Mapping[str, Album], classes: Sequence[str]) -> dict[str, Any] | None:
    """Return what the page knows of its images; None if there are none.

    Returns:
        "classes"; "kinds": names of the kinds of segments; "errors": places of those that are errors; "correct": place
        of the kind that is none; "pairs": number of pairs of classes that the pixels of one image have at most;
        "images": data URIs of the images; "tasks": {task: {"seen", "limited", "entries"}} with the number of images
        compared, whether the page had no room for all of its images, and their values (see :func:`_entry`).
    """
    tasks: dict[str, dict[str, Any]] = {
        task: {"seen": album.seen, "limited": False, "entries": []} for task, album in albums.items() if album.entries
    }
    if not tasks:
        return None
    images: list[str] = []
    places: dict[str, int] = {}
    left = ALBUM_BYTES
    for task, entry, photo in _photos(albums):
        prepared = _entry(entry, places.get(entry.file_name, len(images)))
        left -= len(prepared["t"]) + len(prepared["f"]) + sum(len(str(mark)) for mark in prepared["m"])
        left -= len(photo) if entry.file_name not in places else 0
        if left < 0:
            break
        if entry.file_name not in places:
            places[entry.file_name] = len(images)
            images.append(photo)
        tasks[task]["entries"].append(prepared)
    for task, values in tasks.items():
        values["limited"] = len(values["entries"]) < len(albums[task].entries)
    return {
        "classes": list(classes),
        "kinds": [kind.value for kind in KINDS],
        "errors": [KINDS.index(kind) for kind in MEANINGS],
        "correct": CORRECT,
        "pairs": MOST_PAIRS,
        "images": images,
        "tasks": tasks,
    }


def _photos(albums: Mapping[str, Album]) -> Iterator[tuple[str, Entry, str]]:
    """Yield (task, entry, small copy of its image as a data URI), the tasks in turn; no images that have gone."""
    rows = itertools.zip_longest(*([(task, entry) for entry in album.entries] for task, album in albums.items()))
    pairs = (pair for row in rows for pair in row if pair is not None)
    with ThreadPoolExecutor(_THREADS) as pool:
        while block := list(itertools.islice(pairs, _AT_ONCE)):
            files = list(dict.fromkeys(entry.file_name for _, entry in block))
            photos = dict(zip(files, pool.map(_photo, files), strict=True))
            yield from ((task, entry, photo) for task, entry in block if (photo := photos[entry.file_name]))


def _photo(file_name: str) -> str:
    """Return the copy; "" if the image cannot be read any more."""
    try:
        image = read_image(file_name, "RGB")
    except (OSError, ValueError) as error:
        logger.warning("The report's album lacks %s: %s", file_name, error)
        return ""
    rows, columns = shrunk((image.shape[0], image.shape[1]), LONGEST_SIDE)
    return jpeg_uri(cv2.resize(image, (len(columns), len(rows)), interpolation=cv2.INTER_AREA), QUALITY)


def _entry(entry: Entry, place: int) -> dict[str, Any]:
    """Return "n"ame, "q"uality, place of the "i"mage, "t"ruth and what was "f"ound as data URIs, and "m"arks."""
    return {
        "n": Path(entry.file_name).name,
        "q": round(entry.quality, 4),
        "i": place,
        "t": png_uri(entry.truth),
        "f": png_uri(entry.found),
        "m": [_mark(mark) for mark in entry.marks],
    }


def _mark(mark: Mark) -> list[Any]:
    """Return [kind, true class, found class, weight, box]."""
    return [mark.kind, mark.true, mark.found, None if mark.weight is None else round(mark.weight, 4), mark.box]
