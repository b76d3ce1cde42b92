"""Two short videos with tracks, written as YouTube-VIS files are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

HEIGHT, WIDTH, LENGTH = 40, 60, 6


def rectangle(left: int, top: int, side: int) -> dict[str, Any]:
    """Uncompressed run lengths of a square, counted by hand: columns from top to bottom."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top : top + side, left : left + side] = 1
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": counts if flat[0] == 0 else [0, *counts]}


def track(number: int, video: int, category: int, masks: list[Any], **more: Any) -> dict[str, Any]:
    return {"id": number, "video_id": video, "category_id": category, "segmentations": masks, "iscrowd": 0, **more}


def content() -> dict[str, Any]:
    moving = [rectangle(5 + 4 * t, 10, 12) for t in range(LENGTH)]
    late = [None] * 3 + [rectangle(40, 4, 8)] * 3
    return {
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "videos": [
            {"id": v, "height": HEIGHT, "width": WIDTH, "length": n, "file_names": [f"{v}/{t}.png" for t in range(n)]}
            for v, n in ((1, LENGTH), (2, 1))
        ],
        "annotations": [
            track(11, 1, 7, moving),
            track(12, 1, 3, late),
            track(13, 1, 3, moving, iscrowd=1),
            track(14, 2, 3, [rectangle(20, 20, 10)]),
        ],
    }


def write(folder: Path, changed: dict[str, Any] | None = None) -> tuple[str, str]:
    """Write frames, in each pixel the number of its column, and the file; return the file and the folder of frames."""
    for video, length in ((1, LENGTH), (2, 1)):
        (folder / "frames" / str(video)).mkdir(parents=True, exist_ok=True)
        for t in range(length):
            image = np.broadcast_to(np.arange(WIDTH, dtype=np.uint8)[None, :, None], (HEIGHT, WIDTH, 3))
            cv2.imwrite(str(folder / "frames" / str(video) / f"{t}.png"), np.ascontiguousarray(image))
    (folder / "videos.json").write_text(json.dumps(changed or content()))
    return str(folder / "videos.json"), str(folder / "frames")
