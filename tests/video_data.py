"""Two short videos of squares that move, in each form of tracks that is read. All numbers are known by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 48, 64
FRAMES = {"0002": [0, 1, 2, 3], "0005": [7, 8]}  # numbers of the frames; the second does not begin at 0
# video, frame's place -> MOTS's number (1000 * class + track): left and top of a square of 12 pixels
SQUARES: dict[tuple[str, int], dict[int, tuple[int, int]]] = {
    ("0002", 0): {1001: (0, 0), 2001: (40, 20)},
    ("0002", 1): {1001: (4, 0), 2001: (40, 24), 2002: (20, 30)},
    ("0002", 2): {1001: (8, 0), 10000: (50, 34)},
    ("0002", 3): {2002: (20, 20)},
    ("0005", 0): {1001: (30, 10)},
    ("0005", 1): {1001: (30, 14)},
}
SIDE = 12
# What a reader has to find: (video, class) of each track -> places of its frames.
TRACKS = [("0002", 1, [0, 1, 2]), ("0002", 2, [0, 1]), ("0002", 2, [1, 3]), ("0005", 1, [0, 1])]


def mask(left: int, top: int) -> np.ndarray:
    result = np.zeros((HEIGHT, WIDTH), np.uint8)
    result[top : top + SIDE, left : left + SIDE] = 1
    return result


def write_frames(folder: Path) -> str:
    """Write noise on which squares are bright, in a folder for each video; return their folder."""
    rng = np.random.default_rng(0)
    for video, numbers in FRAMES.items():
        (folder / "images" / video).mkdir(parents=True)
        for place, number in enumerate(numbers):
            image = rng.integers(0, 90, (HEIGHT, WIDTH, 3), np.uint8)
            for value, corner in SQUARES[video, place].items():
                image[mask(*corner) == 1] = (250, 60, 40) if value < 2000 else (40, 60, 250)
            Image.fromarray(image).save(folder / "images" / video / f"{number:06}.png")
    return str(folder / "images")


def write_mots_png(folder: Path) -> str:
    for (video, place), squares in SQUARES.items():
        labels = np.zeros((HEIGHT, WIDTH), np.uint16)
        for value, corner in squares.items():
            labels[mask(*corner) == 1] = value
        (folder / "instances" / video).mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(folder / "instances" / video / f"{FRAMES[video][place]:06}.png")
    return str(folder / "instances")


def write_mots_txt(folder: Path) -> str:
    (folder / "instances_txt").mkdir()
    for video, numbers in FRAMES.items():
        lines = []
        for place, number in enumerate(numbers):
            for value, corner in SQUARES[video, place].items():
                text = coco_mask.encode(np.asfortranarray(mask(*corner)))["counts"].decode()
                lines.append(f"{number} {value} {value // 1000} {HEIGHT} {WIDTH} {text}\n")
        (folder / "instances_txt" / f"{video}.txt").write_text("".join(lines))
    return str(folder / "instances_txt")


def coco_frames() -> dict[str, Any]:
    """Return COCO's form with ids of videos and tracks; images are listed backwards, so that their numbers count."""
    images, annotations = [], []
    for (video, place), squares in reversed(SQUARES.items()):
        file = f"{video}/{FRAMES[video][place]:06}.png"
        entry = {"id": len(images) + 1, "file_name": file, "height": HEIGHT, "width": WIDTH}
        images.append(entry | {"video_id": int(video), "frame_id": place})
        for value, (x, y) in squares.items():
            outline = [[x, y, x + SIDE, y, x + SIDE, y + SIDE, x, y + SIDE]]
            if value < 10000:
                one = {"id": len(annotations) + 1, "image_id": entry["id"], "category_id": value // 1000, "iscrowd": 0}
                annotations.append(one | {"track_id": value, "segmentation": outline})
    names = [{"id": 1, "name": "car"}, {"id": 2, "name": "pedestrian"}]
    videos = [{"id": int(video), "name": video} for video in FRAMES]
    return {"images": images, "annotations": annotations, "categories": names, "videos": videos}


def youtube_vis() -> dict[str, Any]:
    """Return the form that all others become, written without the code that is tested."""
    videos = [
        {"id": int(video), "height": HEIGHT, "width": WIDTH, "file_names": [f"{video}/{n:06}.png" for n in numbers]}
        for video, numbers in FRAMES.items()
    ]
    tracks: dict[tuple[str, int], list[Any]] = {}
    for (video, place), squares in SQUARES.items():
        for value, corner in squares.items():
            if value < 10000:
                masks = tracks.setdefault((video, value), [None] * len(FRAMES[video]))
                encoded = coco_mask.encode(np.asfortranarray(mask(*corner)))
                masks[place] = {**encoded, "counts": encoded["counts"].decode()}
    annotations = [
        {"id": number, "video_id": int(video), "category_id": value // 1000, "iscrowd": 0, "segmentations": masks}
        for number, ((video, value), masks) in enumerate(tracks.items(), start=1)
    ]
    names = [{"id": 1, "name": "car"}, {"id": 2, "name": "pedestrian"}]
    return {"videos": videos, "annotations": annotations, "categories": names}


def write_youtube_vis(folder: Path) -> tuple[str, str]:
    """Return the file and the folder of frames."""
    frames = write_frames(folder)
    (folder / "videos.json").write_text(json.dumps(youtube_vis()))
    return str(folder / "videos.json"), frames
