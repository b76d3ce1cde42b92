"""Paste segments of a second image of the data set into each training image, as kMaX-DeepLab does."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Instances
from torch import Tensor

Record = dict[str, Any]
LEAST_LABELLED = 4096 / 321**2  # share of the stride-4 cells; published as 4096 cells of a canvas of 1281 x 1281
MOST_TRIES = 20


class CopyPaste:
    """Map records for training; paste segments of a donor, another image drawn evenly, into the result.

    All things of the donor are pasted, and of all its segments in random order the first r, r drawn evenly from 0 to
    their number. All random numbers are NumPy's, which the loader seeds for each image. An image without an object, or
    with too few labelled pixels, gives way to another one.

    Args:
        mapper: maps a record to ``image`` [3, H, W] and disjoint ``instances``, all of one size.
        donor_mapper: the same for donors, which are usually smaller inside the same size.
        records: all of the data set.
        things: contiguous ids of the classes that are things; segments of one stuff class are joined.
        least_labelled: greatest share of labelled cells, every fourth row and column, at which an image gives way.
    """

    def __init__(
        self,
        mapper: Any,
        donor_mapper: Any,
        records: Sequence[Record],
        things: Collection[int],
        least_labelled: float = LEAST_LABELLED,
    ) -> None:
        self.mapper = mapper
        self.donor_mapper = donor_mapper
        self.records = records
        self.things = frozenset(things)
        self.least_labelled = least_labelled

    def at_size(self, size: float) -> CopyPaste:
        """Return the same for images of another size: see :meth:`Mapper.at_size`."""
        other = copy.copy(self)
        other.mapper, other.donor_mapper = self.mapper.at_size(size), self.donor_mapper.at_size(size)
        return other

    def __call__(self, record: Record) -> Record:
        """Map one record; see :class:`~mask2former.data.mapper.Mapper` for what is returned.

        Raises:
            ValueError: images and donors differ in size, or many images in a row have next to nothing labelled.
        """
        first = record.get("file_name")
        for _ in range(MOST_TRIES):
            result = self.mapper(record)
            donor = self.donor_mapper(self._any_record())
            if donor["image"].shape != result["image"].shape:
                raise ValueError(
                    f"{record.get('file_name')}: copy-paste needs images of one size; found "
                    f"{tuple(result['image'].shape)} and {tuple(donor['image'].shape)}. Choose an "
                    "INPUT.DATASET_MAPPER_NAME that pads to a fixed size."
                )
            self._paste(result, donor)
            cells = result["instances"].gt_masks.tensor[:, ::4, ::4].any(dim=0)
            if len(result["instances"]) and cells.float().mean() > self.least_labelled:
                return result
            record = self._any_record()
        raise ValueError(
            f"{first}: neither it nor any of {MOST_TRIES - 1} other images has more than {self.least_labelled:.1%} of "
            "its pixels labelled. Raise INPUT.MIN_SCALE, or check the annotations."
        )

    def _any_record(self) -> Record:
        return self.records[np.random.randint(len(self.records))]

    def _paste(self, result: Record, donor: Record) -> None:
        classes, masks = _objects(donor)
        order = np.random.permutation(len(classes))
        chosen = set(order[: np.random.randint(len(classes) + 1)].tolist())
        chosen |= {number for number, label in enumerate(classes.tolist()) if label in self.things}
        rows = torch.tensor(sorted(chosen), dtype=torch.int64)
        pasted = masks[rows].any(dim=0)
        result["image"] = torch.where(pasted, donor["image"], result["image"])
        own_classes, own_masks = _objects(result)
        classes, masks = self._join_stuff(
            torch.cat((own_classes, classes[rows])), torch.cat((own_masks & ~pasted, masks[rows]))
        )
        seen = masks.flatten(1).any(dim=1)
        result["instances"] = Instances(
            tuple(masks.shape[1:]), gt_classes=classes[seen], gt_masks=BitMasks(masks[seen])
        )

    def _join_stuff(self, classes: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        place: dict[int, int] = {}
        kept = []
        for number, label in enumerate(classes.tolist()):
            if label in self.things or label not in place:
                place[label] = number
                kept.append(number)
            else:
                masks[place[label]] |= masks[number]
        return classes[kept], masks[kept]


def _objects(mapped: Record) -> tuple[Tensor, Tensor]:
    return mapped["instances"].gt_classes, mapped["instances"].gt_masks.tensor
