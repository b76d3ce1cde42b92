"""Leave out images that cannot be read, and keep a list of them that worker processes share: a file."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from detectron2.config import CfgNode

from mask2former.data.images.limits import ImageError

Record = dict[str, Any]
NAME = "bad_images.jsonl"
MOST_IN_A_ROW = 100  # then something else is wrong, such as the folder of all images


@dataclass
class BadImages:
    """A list of images that could not be read, one JSON line each: ``file_name`` and ``error``.

    Several processes may add to it, and it may be pickled.

    Attributes:
        path: the file; it need not exist.
    """

    path: str
    _in_a_row: int = field(default=0, repr=False)

    @classmethod
    def of(cls, folder: str) -> BadImages:
        """Return the list of an output folder."""
        return cls(os.path.join(folder, NAME))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> BadImages | None:
        """Return the list of the configuration's output folder if DATALOADER.ON_BAD_IMAGE is skip, else None."""
        choice = cfg.DATALOADER.ON_BAD_IMAGE
        if choice not in ("stop", "skip"):
            raise ValueError(f"DATALOADER.ON_BAD_IMAGE is {choice!r}; choose stop or skip.")
        return cls.of(cfg.OUTPUT_DIR) if choice == "skip" else None

    def add(self, record: Record, error: Exception) -> None:
        """Add the image of a data set's record.

        Raises:
            ValueError: it is number ``MOST_IN_A_ROW`` in a row, in this process.
        """
        self._in_a_row += 1
        os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
        line = json.dumps({"file_name": str(record["file_name"]), "error": str(error)})
        with open(self.path, "a") as file:  # one short write to the end, which no other process's can split
            file.write(f"{line}\n")
        if self._in_a_row >= MOST_IN_A_ROW:
            raise ValueError(
                f"{MOST_IN_A_ROW} images in a row cannot be read, the last because of this: {error} They are listed in "
                f"{self.path}. DATALOADER.ON_BAD_IMAGE skip is meant for a few of many images."
            ) from error

    def well(self) -> None:
        """Note that an image was read."""
        self._in_a_row = 0

    def end(self) -> int:
        """Return where the list ends, in bytes, for :meth:`since`."""
        return os.path.getsize(self.path) if os.path.exists(self.path) else 0

    def since(self, place: int) -> dict[str, str]:
        """Return file name -> error of the images added after ``place``, each once."""
        if not os.path.exists(self.path):
            return {}
        with open(self.path) as file:
            file.seek(place)
            entries = [json.loads(line) for line in file]
        return {entry["file_name"]: entry["error"] for entry in entries}


class InPlaceOfBad:
    """Map records for training; take another record in place of one whose image or annotation file cannot be read.

    Detectron2's data set does that for mappers that return None, but its release fails there from Python 3.11 on. Which
    other record it is depends on the file's name alone, so that a run may be repeated.

    Args:
        mapper: maps a record.
        records: all of the data set.
        images: the list of images that could not be read.
    """

    def __init__(self, mapper: Any, records: Sequence[Record], images: BadImages) -> None:
        self.mapper = mapper
        self.records = records
        self.images = images

    def at_size(self, size: float) -> InPlaceOfBad:
        """Return the same with the mapper for images of another size: see :meth:`Mapper.at_size`."""
        return InPlaceOfBad(self.mapper.at_size(size), self.records, self.images)

    def with_donors(self, records: Sequence[Record]) -> InPlaceOfBad:
        """Return the same with the mapper for copy-paste: see :meth:`Mapper.with_donors`."""
        return InPlaceOfBad(self.mapper.with_donors(records), self.records, self.images)

    def __call__(self, record: Record) -> Record:
        choice = random.Random(str(record["file_name"]))
        while True:
            try:
                result = self.mapper(record)
            except (ImageError, FileNotFoundError) as error:
                self.images.add(record, error)
                record = self.records[choice.randrange(len(self.records))]
            else:
                self.images.well()
                return result
