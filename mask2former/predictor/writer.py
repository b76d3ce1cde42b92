"""Write results to files in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mask2former.data.images.read import panoptic_png
from mask2former.files import write_text
from mask2former.predictor.coco import Json, categories, coco_entry, join_entries
from mask2former.predictor.result import LABELS, Result
from mask2former.predictor.video_file import VideoFile
from mask2former.visualization import free_file, save_image

PANOPTIC_PNGS = Path("panoptic")  # folder; COCO gives it the name of the json
_PHOTOS = (".jpg", ".jpeg", ".webp")  # drawn as jpg too, because a png of a photograph is ten times as large


class ResultWriter:
    """Write the results of images and videos, one after another.

    Args:
        folder: where to write; created if missing.
        tasks: the tasks to write.
        mode: mode of :meth:`Result.draw`.
        drawing: other arguments of :meth:`Result.draw`.
        masks: also write each region's mask, into a folder for each image.
        json: also write a COCO file for each task, when closed, and COCO's pngs of panoptic results.
        file: path of the only drawn file, in place of names made from the images'.

    Attributes:
        drawn: files drawn so far.
    """

    def __init__(
        self,
        folder: Path,
        tasks: Sequence[str],
        mode: str = "overlay",
        drawing: Mapping[str, Any] | None = None,
        masks: bool = False,
        json: bool = False,
        file: Path | None = None,
    ) -> None:
        self.folder, self.tasks, self.mode = folder, tuple(tasks), mode
        self.drawn: list[Path] = []
        self._drawing = dict(drawing or {})
        self._with_masks, self._with_json, self._file = masks, json, file
        self._masks: list[Path] = []
        self._json: list[Path] = []
        self._videos: dict[str, VideoFile] = {}
        self._entries: dict[str, list[tuple[Json, list[Json]]]] = {}
        self._categories: dict[str, list[Json]] = {}
        self._count = 0  # number of images and frames
        self._films: list[Path] = []  # names of the videos, from which those of their frames are made
        self._frames = 0  # number of frames in this video

    def add(self, result: Result) -> None:
        """Write the result of an image."""
        name = Path(result.file_name or "image.png")
        suffix = ".jpg" if name.suffix.lower() in _PHOTOS and self.mode != LABELS else ".png"
        for task in self.tasks:
            file = self._file or free_file(self.folder / f"{name.stem}_{task}{suffix}", self.drawn)
            self.drawn.append(result.save(file, task, self.mode, **self._drawing))
        self._add_facts(result, name.stem)

    def add_frame(self, result: Result, video: str, rate: float, sound: Path | None = None, cut: bool = False) -> None:
        """Write the result of the next frame of the video named ``video``, of ``rate`` frames a second.

        Frames are numbered from 1 in each video. There is no legend, which would change from frame to frame, and things
        of a class have one colour, unless they are tracked.

        Args:
            result: the frame's.
            video: name of the film.
            rate: frames a second.
            sound: a film whose sound is copied.
            cut: the sound ends with the last frame.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        drawing = {**self._drawing, "shades": False, "legend": False}
        for task in self.tasks:
            if task not in self._videos:
                file = self._file or free_file(self.folder / f"{video}_{task}.mp4", self.drawn)
                self._videos[task] = VideoFile(file, rate, sound, cut)
            self._videos[task].write(result.draw(task, self.mode, **drawing), result.seconds)
            if self._videos[task].file not in self.drawn:  # it could be begun
                self.drawn.append(self._videos[task].file)
        if not self._frames:
            self._films.append(free_file(Path(video), self._films))
        self._frames += 1
        stem = f"{self._films[-1]}_{self._frames:06d}"
        result.file_name = f"{stem}.jpg"
        self._add_facts(result, stem)

    def end_video(self) -> None:
        """End the current video; the next frame belongs to another one."""
        videos, self._videos, self._frames = self._videos, {}, 0
        with ExitStack() as all_of_them:  # though one fails
            for video in videos.values():
                all_of_them.callback(video.close)

    def close(self) -> None:
        """Write the files that cover all images."""
        self.end_video()
        for task, entries in self._entries.items():
            file = self.folder / f"{task}.json"
            write_text(file, json.dumps(join_entries(entries, self._categories[task])))
            self._json.append(file)

    def summary(self) -> list[str]:
        """Return lines that say what was written, and where."""
        lines = [f"drawn: {_listed(self.drawn, self.folder)}"] if self.drawn else []
        lines += [f"COCO json: {file}" for file in self._json]
        if PANOPTIC_PNGS.name in {file.stem for file in self._json}:
            lines.append(f"its pngs of segment ids: {self.folder / PANOPTIC_PNGS}")
        if self._masks:
            lines.append(f"masks: {len(self._masks)} in {self.folder / '*_masks'}")
        return lines

    def _add_facts(self, result: Result, stem: str) -> None:
        self._count += 1
        for task in self.tasks:
            if self._with_masks:
                folder = free_file(self.folder / f"{stem}_{task}_masks", self._mask_folders)
                self._masks += result.save_masks(folder, task)
            if self._with_json:
                self._categories.setdefault(task, categories(result, task))
                image, annotations = coco_entry(result, task, self._count)
                self._entries.setdefault(task, []).append((image, annotations))
                if task == "panoptic":
                    folder = self.folder / PANOPTIC_PNGS
                    folder.mkdir(parents=True, exist_ok=True)
                    save_image(folder / annotations[0]["file_name"], panoptic_png(result.panoptic))

    @property
    def _mask_folders(self) -> set[Path]:
        return {file.parent for file in self._masks}


def _listed(files: Sequence[Path], folder: Path) -> str:
    if len(files) <= 3:
        return ", ".join(map(str, files))
    return f"{len(files)} files in {folder}"
