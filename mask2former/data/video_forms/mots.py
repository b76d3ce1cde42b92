"""Read the two forms of MOTS (KITTI MOTS and MOTSChallenge): a png of ids for each frame, or a txt for each video.

Both lie beside a folder of images that holds a folder of numbered frames for each video::

    images/0002/000000.png
    instances/0002/000000.png      16 bits; a pixel is 1000 * class + track, 0 background, 10000 ignored
    instances_txt/0002.txt         lines "frame track class height width mask", the mask a compressed run length (RLE)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mask2former.data.coco.faults import Sink
from mask2former.data.images.read import file_size, read_labels
from mask2former.data.rle.decode import object_runs
from mask2former.data.rle.encode import encode_labels
from mask2former.data.video_forms.youtube_vis import FormVideo

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
TRACKS_OF_A_CLASS = 1000
IGNORED = 10  # class of regions in which nothing is labelled
IGNORED_REGIONS = "ignored regions (class 10), which are neither learnt nor scored,"
UNLABELLED = "videos without labels"
MOTS_NAMES = {1: "car", 2: "pedestrian"}
FIELDS = ("frame", "track", "class", "height", "width")


def mots_form(images: str, labels: str) -> str:
    """Return "png" or "txt", the form of MOTS that two folders have, or "" for none.

    Only names are looked at: videos' folders of the same names in both, or txt files named as the images' folders.
    """
    videos = {path.name for path in Path(images).iterdir() if path.is_dir()}
    inside = list(Path(labels).iterdir())
    if videos & {path.stem for path in inside if path.suffix == ".txt" and path.is_file()}:
        return "txt"
    both = [path for path in inside if path.is_dir() and path.name in videos]
    return "png" if any(one.suffix == ".png" for path in both for one in path.iterdir()) else ""


def read_mots(images: str, labels: str, form: str, names: Mapping[int, str], sink: Sink) -> Iterator[FormVideo]:
    """Read the videos that have labels, in the order of their names, one at a time.

    Args:
        images: folder of the videos' folders of frames, whose names are their numbers.
        labels: folder of the labels.
        form: "png" or "txt".
        names: category id -> name, of the classes that may occur.
        sink: receives faults: labels without a video or frame, sizes that differ, unknown classes, broken masks.
            Ignored regions, and videos without labels, are left out and said to be.
    """
    videos = sorted(path.name for path in Path(images).iterdir() if path.is_dir())
    suffix = ".txt" if form == "txt" else ""
    labelled = {p.name.removesuffix(suffix) for p in Path(labels).iterdir() if p.name.endswith(suffix) or not suffix}
    for name in sorted(labelled - set(videos)):
        if form == "txt" or Path(labels, name).is_dir():
            frames = os.path.join(images, name)
            sink.fault(os.path.join(labels, name + suffix), f"there is no folder of its frames, {frames}")
    for name in videos:
        if name not in labelled:
            sink.left_out(UNLABELLED)
            continue
        places = _frames(os.path.join(images, name), sink)
        if not places:
            sink.fault(os.path.join(images, name), f"the folder has no frames ({', '.join(FRAME_SUFFIXES)})")
            continue
        files = [f"{name}/{file}" for file in places.values()]
        try:
            size = file_size(os.path.join(images, files[0]))
        except ValueError as error:
            sink.fault(os.path.join(images, files[0]), str(error))
            continue
        video = FormVideo(None, name, size, files)
        numbers = {number: place for place, number in enumerate(places)}
        if form == "txt":
            _read_txt(video, os.path.join(labels, f"{name}.txt"), numbers, names, sink)
        else:
            _read_pngs(video, os.path.join(labels, name), numbers, names, sink)
        yield video


def _frames(folder: str, sink: Sink) -> dict[int, str]:
    """Return the files of a video's frames by their numbers, ascending."""
    found: dict[int, str] = {}
    for file in sorted(os.listdir(folder)):
        stem, suffix = os.path.splitext(file)
        if suffix.lower() not in FRAME_SUFFIXES or file.startswith("."):
            continue
        if not stem.isdecimal():
            sink.fault(os.path.join(folder, file), "the name of a frame has to be its number, such as 000012.png")
        elif int(stem) in found:
            sink.fault(os.path.join(folder, file), f"frame {int(stem)} is there twice, as {found[int(stem)]} too")
        else:
            found[int(stem)] = file
    return dict(sorted(found.items()))


def _read_pngs(video: FormVideo, folder: str, places: Mapping[int, int], names: Mapping[int, str], sink: Sink) -> None:
    pngs = _frames(folder, sink)
    for number in places.keys() - pngs.keys():
        sink.fault(folder, f"frame {video.file_names[places[number]]} has no png of its labels")
    for number, name in pngs.items():
        file = os.path.join(folder, name)
        if number not in places:
            sink.fault(file, f"video {video.name} has no frame {number}")
            continue
        try:
            labels = read_labels(file)
        except ValueError as error:
            sink.fault(file, str(error).removeprefix(f"{file}: "))
            continue
        if labels.shape != video.size:
            sink.fault(file, f"the size (height, width) is {labels.shape}, but that of the video's frames {video.size}")
            continue
        for value, mask in encode_labels(labels.astype(np.int32)).items():
            category = value // TRACKS_OF_A_CLASS
            if value and _counts(category, names, file, f"pixels of {value}", sink):
                video.add(value, category, places[number], mask, sink, (file, f"pixels of {value}"))


def _read_txt(video: FormVideo, file: str, places: Mapping[int, int], names: Mapping[int, str], sink: Sink) -> None:
    with open(file, encoding="ascii", errors="replace") as lines:
        for position, line in enumerate(lines, start=1):
            if not (parts := line.split()):
                continue
            where = f"line {position}"
            if len(parts) != 6 or not all(part.isdecimal() for part in parts[:5]):
                wanted = f"{', '.join(FIELDS)} (whole numbers) and a mask, parted by blanks"
                sink.fault(file, f"{where}: a line has {wanted}; found {line.strip()!r:.80}")
                continue
            frame, track, category, height, width = map(int, parts[:5])
            if frame not in places:
                sink.fault(file, f"{where}: video {video.name} has no frame {frame}")
                continue
            if (height, width) != video.size:
                said = f"the size (height, width) is {(height, width)}, but that of the video's frames {video.size}"
                sink.fault(file, f"{where}: {said}")
                continue
            mask = {"size": [height, width], "counts": parts[5]}
            try:
                object_runs(mask, video.size)
            except ValueError as error:
                sink.fault(file, f"{where}: {error}")
                continue
            if _counts(category, names, file, where, sink):
                video.add(track, category, places[frame], mask, sink, (file, where))


def _counts(category: int, names: Mapping[int, str], file: str, where: str, sink: Sink) -> bool:
    """Tell whether objects of a class are tracks; ignored regions are left out, and unknown classes are faults."""
    if category in names:
        return True
    if category == IGNORED:
        sink.left_out(IGNORED_REGIONS)
    else:
        known = ", ".join(f"{id_} {name}" for id_, name in names.items())
        sink.fault(file, f"{where}: class {category} has no name (known: {known}). Give the names of all by --classes")
    return False
