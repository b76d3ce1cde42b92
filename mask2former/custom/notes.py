"""Warnings about custom data that do not stop a training."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from mask2former.custom.source import DataError, DataSource
from mask2former.custom.videos import listed_videos
from mask2former.data.checks import Report
from mask2former.data.checks.report import listed
from mask2former.data.coco.faults import FirstFault
from mask2former.data.coco.file import Images, read_images
from mask2former.data.coco.instances import BOXES_ALONE
from mask2former.data.datasets.readers import read_sem_seg

MOST_LINES = 20


def warnings(source: DataSource, report: Report) -> list[str]:
    """Return warnings of faults that training survives, of classes in no image, and of many crowds."""
    lines = report.lines(report.survived)
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"... and {len(lines) - MOST_LINES} more of these in {source}"]
    if alone := report.counts.get(BOXES_ALONE):
        lines.append(f"{source}: {alone} {BOXES_ALONE} are left out.")
    lines += [f"{source}: {remark}" for remark in report.remarks()]
    return [f"warning: {line}" for line in lines]


def held_out_classes(report: Report, rest: Collection[Any]) -> list[str]:
    """Return a warning if all images, or videos, of a class are held out, so that none is left to learn it from.

    Args:
        report: result of checking all of them.
        rest: ids of those that are trained on.
    """
    lost = [name for name, shown in report.shown.items() if shown.isdisjoint(rest)]
    if lost:
        return [
            f"warning: what shows {listed(lost)} is held out of the training, which cannot learn it. Choose the images "
            "for validation yourself, by --val."
        ]
    return []


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
