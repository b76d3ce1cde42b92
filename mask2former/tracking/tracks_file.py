"""Write the tracks of a film: json in YouTube-VIS's form, or a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mask2former.data.rle.encode import encode_masks
from mask2former.files import write_text

SUFFIXES = (".json", ".csv")
COLUMNS = ("frame", "seconds", "track", "class", "score", "x0", "y0", "x1", "y1", "area")


class TracksFile:
    """Collect the objects of a film's frames, and write them at its end.

    Masks are kept as run lengths, some hundred bytes for an object in a frame.

    Args:
        file: with the suffix .json or .csv.
        name: of the film.
        category_ids: the data set's id of each class.
        names: of the classes.

    Attributes:
        size: (H, W) of the frames, in pixels; None before the first.

    Raises:
        ValueError: another suffix.
    """

    def __init__(self, file: Path, name: str, category_ids: Sequence[int], names: Sequence[str]) -> None:
        if file.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{file}: tracks are written as {' or '.join(SUFFIXES)}; name a file that ends so.")
        self.file, self._name = file, name
        self._category_ids, self._names = list(category_ids), list(names)
        self._frames = 0
        self.size: tuple[int, int] | None = None
        self._rows: list[tuple[Any, ...]] = []
        self._masks: dict[int, dict[int, Any]] = {}  # track -> frame -> run lengths
        self._facts: dict[int, list[tuple[int, float, list[float], int]]] = {}  # class, score, box, area

    def add(
        self,
        tracks: Sequence[int],
        masks: np.ndarray,
        boxes: np.ndarray,
        classes: Sequence[int],
        scores: Sequence[float],
        seconds: float | None,
    ) -> None:
        """Add the next frame: numbers of tracks, masks [n, H, W] bool, boxes [n, 4] (x0, y0, x1, y1), and so on.

        Raises:
            ValueError: (H, W) is not that of the first frame; both forms of the file know one size of a film.
        """
        self.size = self.size or (masks.shape[1], masks.shape[2])
        if masks.shape[1:] != self.size:
            height, width = self.size
            raise ValueError(
                f"{self.file}: frame {self._frames} has {masks.shape[2]} x {masks.shape[1]} pixels, and those before "
                f"{width} x {height}; resize its masks."
            )
        frame, self._frames = self._frames, self._frames + 1
        areas = masks.sum((1, 2)).tolist()
        runs = encode_masks(masks) if self.file.suffix.lower() == ".json" and len(masks) else [None] * len(masks)
        rows = zip(tracks, runs, boxes.tolist(), classes, scores, areas, strict=True)
        for track, run, box, number, score, area in rows:
            if self.file.suffix.lower() == ".csv":
                name = self._names[number] if number < len(self._names) else str(number)
                time = "" if seconds is None else round(seconds, 4)
                self._rows.append((frame, time, track, name, round(score, 4), *(round(x, 1) for x in box), area))
                continue
            self._masks.setdefault(track, {})[frame] = run
            self._facts.setdefault(track, []).append((number, score, box, area))

    def write(self) -> Path:
        """Write the file; return its path."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.file, self._table() if self.file.suffix.lower() == ".csv" else json.dumps(self._json()))
        return self.file

    def _table(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self._rows)
        return text.getvalue()

    def _json(self) -> dict[str, Any]:
        height, width = self.size or (0, 0)
        video = {"id": 1, "name": self._name, "width": width, "height": height, "length": self._frames}
        annotations = []
        for track, masks in sorted(self._masks.items()):
            facts = dict(zip(masks, self._facts[track], strict=True))
            number = self._facts[track][-1][0]  # averaged over all of the track's frames
            boxes = {frame: [x0, y0, x1 - x0, y1 - y0] for frame, (_, _, (x0, y0, x1, y1), _) in facts.items()}
            annotations.append(
                {
                    "id": track,
                    "video_id": 1,
                    "category_id": self._category_ids[number] if number < len(self._category_ids) else number,
                    "score": float(np.mean([score for _, score, _, _ in facts.values()])),
                    "iscrowd": 0,
                    "width": width,
                    "height": height,
                    "length": self._frames,
                    "segmentations": [masks.get(frame) for frame in range(self._frames)],
                    "bboxes": [boxes.get(frame) for frame in range(self._frames)],
                    "areas": [facts[frame][3] if frame in facts else None for frame in range(self._frames)],
                }
            )
        categories = [{"id": id_, "name": name} for id_, name in zip(self._category_ids, self._names, strict=False)]
        return {"videos": [video], "annotations": annotations, "categories": categories}
