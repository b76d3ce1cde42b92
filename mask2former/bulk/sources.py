"""Find the images of a set, wherever it is, and read one."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from mask2former.data.datasets.readers import IMAGE_SUFFIXES

_MOST_JSON = 4 << 30  # bytes of an annotation file


class Source(NamedTuple):
    """An image of a set.

    Attributes:
        url: of its file, or of the tar file that holds it; a local path, or a URL that fsspec knows.
        name: its ``file_name`` in the results.
        image_id: its id there.
        start, length: its bytes in the tar file; -1 where it is a file of its own.
    """

    url: str
    name: str
    image_id: int
    start: int = -1
    length: int = -1


def find_sources(places: Sequence[str], image_root: str | None = None) -> list[Source]:
    """List images, in an order that depends on the places and names alone.

    Args:
        places: each a folder (with its subfolders), a glob, an image, a tar file (WebDataset), or a COCO json; a local
            path or a URL that fsspec opens, such as s3://bucket/images.
        image_root: where the images of COCO jsons are; None: beside the json.

    Returns:
        The images. Their ids are those of the json, if there is one; otherwise numbers from 1.

    Raises:
        FileNotFoundError: a place does not exist or has no image.
        ValueError: a json is no COCO file or names files outside of ``image_root``; a tar file is compressed; two
            images have one id; or jsons come together with other places.
    """
    found: list[Source] = []
    jsons = [place for place in places if place.lower().endswith(".json")]
    if jsons and len(jsons) < len(places):
        raise ValueError(f"{jsons[0]} has ids of its own: give annotation files alone, or images alone.")
    for place in places:
        fs, path = url_to_fs(place)
        these = list(_of_json(fs, path, image_root) if place in jsons else _of_place(fs, path))
        if not these:
            raise FileNotFoundError(f"{place}: no image there ({', '.join(IMAGE_SUFFIXES)}, .tar).")
        found += these
    if not jsons:
        found = [source._replace(image_id=number) for number, source in enumerate(found, start=1)]
    seen: dict[int, str] = {}
    for source in found:
        if source.image_id in seen:
            raise ValueError(f"Image id {source.image_id} stands for both {seen[source.image_id]} and {source.name}.")
        seen[source.image_id] = source.name
    return found


def read_bytes(source: Source) -> bytes:
    """Read the file of an image.

    Raises:
        OSError: it cannot be read; FileNotFoundError if there is none.
    """
    fs, path = url_to_fs(source.url)
    if source.start < 0:
        return fs.cat_file(path)
    return fs.cat_file(path, start=source.start, end=source.start + source.length)


def _of_place(fs: AbstractFileSystem, path: str) -> Iterator[Source]:
    if fs.isdir(path):
        root, files = path, fs.find(path)
    elif fs.exists(path):
        root, files = str(PurePosixPath(path).parent), [path]
    else:
        files = fs.glob(path)
        root = os.path.commonpath([str(PurePosixPath(file).parent) for file in files]) if files else path
    for file in sorted(files):
        name = str(PurePosixPath(file).relative_to(root))
        if PurePosixPath(file).name.startswith("._"):  # no image: archives of macOS have one beside each file
            continue
        if file.lower().endswith(IMAGE_SUFFIXES):
            yield Source(fs.unstrip_protocol(file), name, 0)
        elif file.lower().endswith(".tar"):
            yield from _of_tar(fs, file, name)
        elif file.lower().endswith((".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")):
            raise ValueError(f"{file}: images in a compressed tar file have no place of their own: unpack it to .tar.")


def _of_tar(fs: AbstractFileSystem, file: str, name: str) -> Iterator[Source]:
    with fs.open(file, "rb") as opened:
        try:
            with tarfile.open(fileobj=opened, mode="r:") as archive:
                for member in archive:
                    hidden = PurePosixPath(member.name).name.startswith("._")
                    if member.isreg() and not hidden and member.name.lower().endswith(IMAGE_SUFFIXES):
                        url = fs.unstrip_protocol(file)
                        yield Source(url, f"{name}/{member.name}", 0, member.offset_data, member.size)
        except tarfile.TarError as error:
            raise ValueError(f"{file}: no whole tar file: {error}") from error


def _of_json(fs: AbstractFileSystem, file: str, image_root: str | None) -> Iterator[Source]:
    size = fs.size(file) or 0
    if size > _MOST_JSON:
        raise ValueError(f"{file}: {size / 2**30:.1f} GiB; annotation files of up to 4 GiB are read.")
    try:
        images = json.loads(fs.cat_file(file))["images"]
        entries = [(_whole(image["id"]), str(image["file_name"])) for image in images]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: no COCO file, whose 'images' have an id and a file_name each: {error!r}") from error
    root = image_root.rstrip("/") if image_root else fs.unstrip_protocol(file).rpartition("/")[0]
    for number, name in entries:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{file}: image {number} has file_name {name!r}, which leads out of its folder.")
        yield Source(f"{root}/{name}", name, number)


def _whole(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"id {number!r} is no whole number")
    return number
