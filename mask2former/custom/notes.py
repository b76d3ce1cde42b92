"""Warnings about custom data that do not stop a training."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mask2former.custom.source import DataError, DataSource
from mask2former.custom.videos import listed_videos
from mask2former.data.checks import Report
from mask2former.data.coco.faults import FirstFault
from mask2former.data.coco.file import Images, read_images
from mask2former.data.coco.instances import BOXES_ALONE
from mask2former.data.datasets.categories import Category
from mask2former.data.datasets.readers import read_sem_seg

MANY_CROWDS = 0.2  # share of a class's annotations; COCO has a few percent
MOST_LINES = 20


def warnings(source: DataSource, report: Report, categories: Sequence[Category]) -> list[str]:
    """Return warnings of faults that training survives, of classes in no image, and of many crowds."""
    lines = report.lines(report.survived)
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"... and {len(lines) - MOST_LINES} more of these in {source}"]
    if alone := report.counts.get(BOXES_ALONE):
        lines.append(f"{source}: {alone} {BOXES_ALONE} are left out.")
    unseen = [category["name"] for category in categories if not report.classes[category["name"]].objects]
    if unseen:
        lines.append(f"no image of {source} shows {', '.join(unseen[:10])}.")
    shares = {name: tally.crowd_share for name, tally in report.classes.items()}
    if most := [f"{name} ({share:.0%})" for name, share in shares.items() if share > MANY_CROWDS]:
        lines.append(
            f"{source}: a large share of these classes is marked as crowds (iscrowd 1): {', '.join(most[:10])}. Crowds "
            "are neither learnt nor scored; some tools set the flag on every mask that they write as run lengths."
        )
    return [f"warning: {line}" for line in lines]


def shared_images(train: DataSource, val: DataSource) -> list[str]:
    """Return a warning if images are both trained on and evaluated on, which flatters the scores."""
    files = [{os.path.realpath(path) for path in _image_files(source)} for source in (train, val)]
    if shared := len(files[0] & files[1]):
        of = f"{shared} of {len(files[1])} validation images"
        return [f"warning: {of} are also training images, so scores will be too high."]
    return []


def listed_images(source: DataSource) -> Images:
    """Return the images that a COCO file of images lists."""
    return read_images(source.content(), str(source.annotations), source.images, FirstFault(DataError))


def _image_files(source: DataSource) -> list[str]:
    if source.kind == "semantic":
        return [record["file_name"] for record in read_sem_seg(source.images, str(source.pngs))]
    if source.kind == "video":
        return [path for video in listed_videos(source).values() if video is not None for path in video.paths]
    return [image.path for image in listed_images(source).values() if image is not None]
