"""How often each image is shown in a pass, so that rare classes are seen more often, for data of every kind."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from detectron2.data.samplers import RepeatFactorTrainingSampler
from torch import Tensor

from mask2former.data.images.read import read_labels

logger = logging.getLogger(__name__)


def repeat_factors(
    records: Iterable[Mapping[str, Any]], threshold: float, *, ignore_label: int = 255, **rule: bool
) -> Tensor:
    """Return the repeat factor of each image, float32: max(1, sqrt(threshold / f)) for its rarest class.

    f is the share of images that show the class (arXiv 1908.03195, section B.2).

    Args:
        records: data set dicts with ``annotations``, ``segments_info`` or ``sem_seg_file_name``; the last one's label
            maps are read, once.
        threshold: classes in a smaller share of the images are repeated; ``DATALOADER.REPEAT_THRESHOLD``.
        ignore_label: label of pixels without a class.
        rule: further arguments of Detectron2's function.

    Raises:
        ValueError: a record has none of these keys; the message names its image.
    """
    classes = [_classes_in(record, ignore_label) for record in records]
    if threshold <= 0:
        logger.warning(
            "DATALOADER.REPEAT_THRESHOLD is %s, so no image is repeated; 0.1 repeats those whose rarest class is in "
            "less than a tenth of the images.",
            threshold,
        )
    as_annotations = [{"annotations": [{"category_id": one} for one in found]} for found in classes]
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(as_annotations, threshold, **rule)
    counts = Counter(one for found in classes for one in found)
    rare = sorted((number, one) for one, number in counts.items() if number < threshold * len(classes))
    if rare:
        shown = ", ".join(f"{one} ({number} images)" for number, one in rare[:10])
        logger.info(
            "Images of %d rare classes are repeated, up to %.1f times: classes %s%s.",
            *(len(rare), float(factors.max()), shown, ", ..." if len(rare) > 10 else ""),
        )
    return factors


def _classes_in(record: Mapping[str, Any], ignore_label: int) -> set[int]:
    for key in ("annotations", "segments_info"):
        if key in record:
            return {int(one["category_id"]) for one in record[key]}
    if "sem_seg_file_name" in record:
        return set(np.unique(read_labels(record["sem_seg_file_name"])).tolist()) - {ignore_label}
    raise ValueError(
        f"{record.get('file_name', 'a record')}: DATALOADER.SAMPLER_TRAIN RepeatFactorTrainingSampler needs to know "
        "the classes of each image, and this one has no annotations, segments_info or sem_seg_file_name. Choose "
        "TrainingSampler."
    )
