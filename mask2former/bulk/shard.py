"""Predict on one shard of a set, and write its file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mask2former.bulk.sources import Source, read_bytes
from mask2former.bulk.table import write_table
from mask2former.data.images.limits import ImageError
from mask2former.data.images.read import image_from_bytes
from mask2former.data.rle.encode import encode_labels
from mask2former.files import write_text
from mask2former.predictor import Predictor
from mask2former.predictor.coco import categories, coco_entry
from mask2former.predictor.load_image import LoadedImage
from mask2former.predictor.result import Result

FORMS = ("json", "parquet")


@dataclass(frozen=True)
class Settings:
    """Say what is to be made of each image.

    Attributes:
        model: as for :class:`mask2former.Predictor`.
        task: "panoptic", "instance" or "semantic"; None: the model's first.
        threshold: as for the predictor.
        device: as for the predictor.
        batch_size: images of one size that go through the network at a time.
        opts: changes of the configuration.
        form: "json" (COCO) or "parquet" (a row for each image, with a list of its segments).
        threads: threads of PyTorch in each worker; None: its default. Sums of other numbers of threads may differ in
            their last bits.
    """

    model: str
    task: str | None = None
    threshold: float | None = None
    device: str | None = None
    batch_size: int = 1
    opts: tuple[str, ...] = ()
    form: str = "json"
    threads: int | None = None


class Done(NamedTuple):
    """Report a shard: its number, the count of its images, and of those that could not be read now."""

    shard: int
    images: int
    skipped: int


class ShardWorker:
    """Predict on shards, one after another, with a model that is loaded once.

    Args:
        settings: the same for all shards.
        folder: gets a file for each shard.
    """

    def __init__(self, settings: Settings, folder: str | Path) -> None:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self.settings, self.folder = settings, Path(folder)
        self.predictor = Predictor(
            settings.model,
            device=settings.device,
            threshold=settings.threshold,
            tasks=None if settings.task is None else [settings.task],
            batch_size=settings.batch_size,
            opts=settings.opts,
        )
        self.task = settings.task or self.predictor.tasks[0]

    def __call__(self, shard: int, sources: Sequence[Source]) -> Done:
        """Predict, and write the shard's file, whole or not at all. A shard that is done already is left alone.

        An image that is missing or damaged is listed in the file, with the reason, and the others go on.

        Raises:
            OSError: the store of the images or the disk of the results does not answer; nothing is written then.
        """
        file = shard_file(self.folder, shard, self.settings.form)
        if file.exists():  # Ray repeats a shard whose worker was killed after writing it
            return Done(shard, len(sources), 0)
        content = self._predict(sources)
        if self.settings.form == "parquet":
            write_table(file, content)
        else:
            write_text(file, json.dumps(content))
        return Done(shard, len(sources), len(content["skipped"]))

    def _predict(self, sources: Sequence[Source]) -> dict[str, Any]:
        read: list[Source] = []
        skipped: list[dict[str, Any]] = []

        def images() -> Iterator[LoadedImage]:
            for source in sources:
                try:
                    pixels = image_from_bytes(read_bytes(source), source.name)
                except (ImageError, FileNotFoundError) as error:
                    skipped.append({"id": source.image_id, "file_name": source.name, "reason": str(error)})
                    continue
                read.append(source)
                yield LoadedImage(pixels, source.name)

        content: dict[str, Any] = {"images": [], "annotations": [], "categories": [], "skipped": skipped}
        for number, result in enumerate(self.predictor.stream(images(), track=False)):
            image, annotations = _entry(result, self.task, read[number])
            content["images"].append(image)
            content["annotations"] += annotations
            content["categories"] = content["categories"] or categories(result, self.task)
        return content


def _entry(result: Result, task: str, source: Source) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return an image's entry and those of its segments, panoptic ones as run lengths too, for want of their png."""
    image, annotations = coco_entry(result, task, source.image_id)
    image["file_name"] = source.name
    if task == "panoptic":
        codes = encode_labels(result.panoptic)
        annotations = [
            {**segment, "image_id": source.image_id, "segmentation": codes[segment["id"]], "segment_id": segment["id"]}
            for segment in annotations[0]["segments_info"]
        ]
    return image, annotations


def shard_file(folder: Path, shard: int, form: str) -> Path:
    return folder / f"{shard:06d}.{form}"
