"""Say at the end of a training which images were left out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from detectron2.data import DatasetCatalog
from detectron2.engine import HookBase

from mask2former.data.mapper.bad_images import BadImages

logger = logging.getLogger(__name__)
SHOWN = 5


class BadImagesHook(HookBase):
    """Warn after the training of the images that it left out, with their share.

    Args:
        images: the list that the mapper adds to.
        datasets: names of the data sets that are trained on.
    """

    def __init__(self, images: BadImages, datasets: Sequence[str]) -> None:
        self._images = images
        self._datasets = datasets
        self._start = images.end()

    def after_train(self) -> None:
        if bad := self._images.since(self._start):
            logger.warning("%s", summary(bad, self._datasets, "were left out of the training", self._images.path))


def summary(bad: Mapping[str, str], datasets: Sequence[str], fate: str, path: str) -> str:
    """Return what to say of images that could not be read: their count, share, the first of them, and the list's file.

    Args:
        bad: file name -> error.
        datasets: names of the data sets that they are of.
        fate: what became of them, as the end of a sentence.
        path: the list's file.
    """
    count = sum(len(DatasetCatalog.get(name)) for name in datasets)
    first = "".join(f"\n  {error}" for error in list(bad.values())[:SHOWN])
    more = f"\n  and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else ""
    share = f"{len(bad):,} of {count:,} images ({len(bad) / max(1, count):.2%})"
    return f"{share} of {', '.join(datasets)} cannot be read and {fate}. All are listed in {path}:{first}{more}"
