"""Write videos in the form of YouTube-VIS, one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mask2former.data.coco.faults import Sink
from mask2former.data.coco.file import Id
from mask2former.files import whole_file


@dataclass(eq=False)
class FormTrack:
    """A track as a reader found it.

    Attributes:
        category_id: id of its class.
        iscrowd: it is a crowd.
        masks: frame's place -> mask in any of COCO's forms.
    """

    category_id: int
    iscrowd: bool = False
    masks: dict[int, Any] = field(default_factory=dict)


@dataclass(eq=False)
class FormVideo:
    """A video as a reader found it.

    Attributes:
        id: in the written file; None: its place, from 1 on.
        name: for people.
        size: (H, W) in pixels of every frame.
        file_names: paths of its L frames below the folder of images.
        tracks: by the reader's own name of each.
    """

    id: Id | None
    name: str
    size: tuple[int, int]
    file_names: list[str]
    tracks: dict[Any, FormTrack] = field(default_factory=dict)

    def add(self, track: Any, category: int, frame: int, mask: Any, sink: Sink, where: tuple[str, str]) -> None:
        """Add the mask of a track in a frame.

        Args:
            track: the track's name within this video.
            category: id of its class.
            frame: place of the frame in ``file_names``.
            mask: in any of COCO's forms.
            sink: receives the faults that the track has another class in another frame, or two masks in this one.
            where: the file, and the place in it, for faults.
        """
        known = self.tracks.setdefault(track, FormTrack(category))
        file, place = where
        if known.category_id != category:
            text = f"track {track} of video {self.name} has class {category} here, but {known.category_id} in a frame"
            sink.fault(file, f"{place}: {text} before; a track has one class")
        elif frame in known.masks:
            sink.fault(file, f"{place}: track {track} has two masks in {self.file_names[frame]}; join them to one")
        else:
            known.masks[frame] = mask


@dataclass
class Written:
    """Numbers of what was written.

    Attributes:
        categories: ids of the classes of which there are tracks.
    """

    videos: int = 0
    frames: int = 0
    tracks: int = 0
    masks: int = 0
    categories: set[int] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{self.videos} videos, {self.frames} frames, {self.tracks} tracks, {self.masks} masks"


def write_videos(file: Path, videos: Iterable[FormVideo], names: Mapping[int, str], all_names: bool = False) -> Written:
    """Write a file in the form of YouTube-VIS. Only one video's tracks are in memory at a time.

    Args:
        file: the file to write; its folder is made. It gets its name when all is written.
        videos: as a reader yields them; errors of the reader leave nothing behind.
        names: category id -> name, of all classes that tracks may have.
        all_names: list classes without a track too.
    """
    written, listed = Written(), []
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file, "w") as out:
        # Annotations come first, because they are written as they come: the order of keys means nothing in json.
        out.write('{"annotations": [')
        for place, video in enumerate(videos, start=1):
            number = place if video.id is None else video.id
            height, width = video.size
            length = len(video.file_names)
            entry = {"id": number, "name": video.name, "height": height, "width": width, "length": length}
            listed.append(entry | {"file_names": video.file_names})
            written.videos += 1
            written.frames += length
            for track in video.tracks.values():
                annotation = {
                    "id": written.tracks + 1,
                    "video_id": number,
                    "category_id": track.category_id,
                    "iscrowd": int(track.iscrowd),
                    "segmentations": [track.masks.get(frame) for frame in range(length)],
                }
                out.write(("," if written.tracks else "") + "\n" + json.dumps(annotation))
                written.tracks += 1
                written.masks += len(track.masks)
                written.categories.add(track.category_id)
        chosen = [{"id": id_, "name": names[id_]} for id_ in sorted(names if all_names else written.categories)]
        out.write('\n],\n"videos": ' + json.dumps(listed) + ',\n"categories": ' + json.dumps(chosen) + "}\n")
    return written
