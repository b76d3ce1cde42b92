"""Copy-paste: objects of one training image, the donor, put into another (arXiv 2012.07177; kMaX-DeepLab's form)."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from torch import Tensor

from mask2former.data.mapper.augmentation import Pad, SegmentationInput, SizeOnlyAugmentation

MOST_TRIES = 100  # images in a row with too little on them; then something else is wrong
STRIDE = 4  # of the grid on which labelled cells are counted
CELLS = 4096 / 1281**2  # that an image has to have more than, per pixel of the canvas (published: 4096 of 1281 x 1281)


@dataclass
class Sample:
    """An augmented training image.

    Attributes:
        image: [3, H, W] uint8.
        real: [H, W] bool, pixels that are not padding.
        classes: [N] int64.
        masks: [N, H, W] bool.
    """

    image: Tensor
    real: Tensor
    classes: Tensor
    masks: Tensor

    @classmethod
    def of(cls, augmented: SegmentationInput) -> Sample:
        real = torch.zeros(augmented.size, dtype=torch.bool)
        real[augmented.objects.grid.inside()] = True
        return cls(torch.from_numpy(augmented.pixels()), real, *augmented.objects.to_masks())

    @property
    def is_sparse(self) -> bool:
        """Tell if too few cells of the grid of stride 4 are in a mask, by a number that grows with the canvas."""
        cells = self.masks[:, ::STRIDE, ::STRIDE].any(0).sum()
        return not len(self.classes) or bool(cells <= CELLS * self.real.numel())


class CopyPaste:
    """Choose a donor and its objects.

    Args:
        augmentations: of donors.
        things: classes in [0, K) of countable objects, all of which are pasted; None: all classes.
        probability: share of the images that get objects of a donor.
        no_sparse_images: take another image in the place of one with few labelled pixels, see
            :attr:`Sample.is_sparse`.
        smaller: augmentations by relative size, see :meth:`mask2former.data.Mapper.at_size`.

    Attributes:
        records: data set dicts among which donors are drawn evenly; None: not yet known.
    """

    def __init__(
        self,
        augmentations: list[T.Augmentation],
        things: Collection[int] | None,
        *,
        probability: float = 1.0,
        no_sparse_images: bool = False,
        smaller: Mapping[float, list[T.Augmentation]] | None = None,
    ) -> None:
        self.augmentations = T.AugmentationList(augmentations)
        self.things = things
        self.probability = probability
        self.no_sparse_images = no_sparse_images
        self.smaller = {size: T.AugmentationList(steps) for size, steps in (smaller or {}).items()}
        self.records: Sequence[dict[str, Any]] | None = None

    def at_size(self, size: float) -> CopyPaste:
        other = copy.copy(self)
        other.augmentations = self.smaller[size]
        return other

    def with_records(self, records: Sequence[dict[str, Any]]) -> CopyPaste:
        other = copy.copy(self)
        other.records = records
        return other

    def draw(self) -> dict[str, Any]:
        """Return a record of the data set, each equally often.

        Raises:
            ValueError: the records are not known.
        """
        if self.records is None or not len(self.records):
            raise ValueError(
                "Copy-paste (INPUT.COPY_PASTE, or INPUT.DATASET_MAPPER_NAME kmax_panoptic) takes objects of other "
                "images of the data set, which this mapper does not have. "
                "mask2former.data.loader.build_train_loader gives it them; elsewhere take mapper.with_donors(records)."
            )
        return self.records[np.random.randint(len(self.records))]

    def wanted(self) -> bool:
        """Decide whether an image gets objects of a donor."""
        return self.probability >= 1 or np.random.uniform() < self.probability

    def prepare(self, donor: SegmentationInput, size: tuple[int, int]) -> Sample:
        """Augment a donor, bring it to ``size`` (H, W) and draw the objects that are to be pasted.

        These are all things and, of all objects in random order, the first r, r drawn from 0 to their number.
        """
        objects = donor.objects
        count = len(objects.classes)
        chosen = set(np.random.permutation(count)[: np.random.randint(count + 1)].tolist())
        chosen |= {i for i, k in enumerate(objects.classes.tolist()) if self.things is None or k in self.things}
        objects.hidden |= frozenset(range(count)) - chosen
        self.augmentations(donor)
        if donor.size != size:
            fit = [SizeOnlyAugmentation(T.FixedSizeCrop(size, pad=False)), SizeOnlyAugmentation(Pad(size=size))]
            T.AugmentationList(fit)(donor)
        return Sample.of(donor)

    def paste(self, picture: Sample, donor: Sample) -> Sample:
        """Put the donor's objects onto a picture of the same size, whose tensors are changed.

        What lies below is cut off. Stuff of one class becomes one mask; objects without a pixel are left out.
        """
        covered = donor.masks.any(0)
        for mine, its in ((picture.image, donor.image), (picture.real, donor.real)):
            torch.where(covered, its, mine, out=mine)
        picture.masks &= ~covered
        classes, masks = torch.cat([picture.classes, donor.classes]), torch.cat([picture.masks, donor.masks])
        kept = masks.flatten(1).any(1)
        first: dict[int, int] = {}
        for index, category in enumerate(classes.tolist()):
            if self.things is not None and category not in self.things and kept[index]:
                if category in first:
                    masks[first[category]] |= masks[index]
                    kept[index] = False
                else:
                    first[category] = index
        return Sample(picture.image, picture.real, classes[kept], masks[kept])
