"""Draw clips as strips: a few frames side by side, the ground truth above the prediction."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.data.catalog import Metadata
from pycocotools import mask as coco_mask

from mask2former.dashboard.class_list import ClassList
from mask2former.dashboard.clips import Clip
from mask2former.dashboard.gallery import shrunk
from mask2former.data.images.read import read_image
from mask2former.evaluation.video import ScoredTrack
from mask2former.visualization import Region, draw_regions, make_region

FRAMES = 6  # of a strip, at most
SIDE = 260  # pixels, of the longest side of a frame in a strip
GAP = 4  # pixels between two frames
# --c0 to --c7 of templates/style.css, by day.
COLOURS = [
    *((37, 99, 201), (194, 87, 12), (26, 138, 90), (138, 75, 201)),
    *((184, 50, 95), (14, 127, 146), (140, 109, 31), (91, 100, 114)),
]


def strips(clip: Clip, files: Sequence[str], classes: ClassList, metadata: Metadata) -> dict[str, np.ndarray]:
    """Draw frames that are spread evenly over a clip.

    An object and the track that is right for it have one colour, that of its bar in the page's timelines.

    Args:
        clip: the clip.
        files: paths of its L frames.
        classes: classes of the report.
        metadata: metadata of the data set, for names.

    Returns:
        {"truth", "found"}: [H, W, 3] uint8, RGB.

    Raises:
        OSError, ValueError: a frame cannot be read, or has another size than a mask in it.
    """
    own = list(range(1, len(clip.followed.objects) + 1))
    rows: dict[str, list[np.ndarray]] = {"truth": [], "found": []}
    for frame in chosen_frames(len(files)):
        image = read_image(files[frame], "RGB")
        _require_size(image, files[frame], [*clip.followed.objects, *clip.followed.tracks], frame)
        ys, xs = shrunk((image.shape[0], image.shape[1]), SIDE)
        small = cv2.resize(image, (len(xs), len(ys)), interpolation=cv2.INTER_AREA)
        for key, tracks, shown in (
            ("truth", clip.followed.objects, own),
            ("found", clip.followed.tracks, clip.numbers),
        ):
            regions = _regions(tracks, shown, frame, (ys, xs), classes, metadata)
            drawn = draw_regions(small, regions, names=False, shades=False)
            rows[key].append(cv2.resize(drawn, (len(xs), len(ys)), interpolation=cv2.INTER_AREA))
    return {key: _side_by_side(images) for key, images in rows.items()}


def chosen_frames(length: int) -> list[int]:
    """Return up to ``FRAMES`` frames of ``length``, evenly spread, with the first and the last."""
    number = min(FRAMES, length)
    return [round(value) for value in np.linspace(0, length - 1, number)]


def _regions(
    tracks: Sequence[ScoredTrack],
    numbers: Sequence[int],
    frame: int,
    picked: tuple[np.ndarray, np.ndarray],
    classes: ClassList,
    metadata: Metadata,
) -> list[Region]:
    regions = []
    for place, track in enumerate(tracks):
        if (mask := track.masks[frame]) is not None:
            pixels = coco_mask.decode(mask).astype(bool)[np.ix_(*picked)]
            category = int(classes.of_files(np.array([track.category]))[0])
            region = make_region(pixels, category, True, metadata)
            colour = np.array(COLOURS[(numbers[place] - 1) % len(COLOURS)], np.uint8)
            regions.append(dataclasses.replace(region, colour=colour))
    return regions


def _require_size(image: np.ndarray, file: str, tracks: Sequence[ScoredTrack], frame: int) -> None:
    for track in tracks:
        mask = track.masks[frame]
        if mask is not None and tuple(mask["size"]) != image.shape[:2]:
            found, wanted = (f"{width} x {height}" for height, width in (image.shape[:2], mask["size"]))
            raise ValueError(f"{file} has {found} pixels, but a mask in it {wanted}.")


def _side_by_side(images: Sequence[np.ndarray]) -> np.ndarray:
    gap = np.full((images[0].shape[0], GAP, 3), 255, np.uint8)
    parts = [part for image in images for part in (gap, image)]
    return np.concatenate(parts[1:], axis=1)
