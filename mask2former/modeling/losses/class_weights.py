"""Weights of single classes in the classification loss."""

from __future__ import annotations

import math

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog


def build_class_weights(cfg: CfgNode) -> list[float] | None:
    """Return ``CLASS_WEIGHTS`` as a weight for each class; names are those of the training data.

    Raises:
        ValueError: a class is not known, or weights are not as many as classes, or not above 0.
    """
    given, count = list(cfg.MODEL.MASK_FORMER.CLASS_WEIGHTS), cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if not given:
        return None
    key = "MODEL.MASK_FORMER.CLASS_WEIGHTS"
    if all(isinstance(one, (int, float)) for one in given):
        if len(given) != count:
            raise ValueError(
                f"{key} has {len(given)} numbers, and there are {count} classes (MODEL.SEM_SEG_HEAD.NUM_CLASSES). For "
                'some classes only: ["name=weight", ...].'
            )
        weights = [float(one) for one in given]
    else:
        known = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).as_dict() if cfg.DATASETS.TRAIN else {}
        names = list(known.get("stuff_classes") or known.get("thing_classes") or ())
        places = {str(place): place for place in range(count)} | {name: place for place, name in enumerate(names)}
        weights = [1.0] * count
        for one in given:
            name, _, weight = str(one).rpartition("=")
            if name not in places:
                there = ", ".join(names) or f"0 to {count - 1}"
                raise ValueError(f"{key} has {one!r}: there is no such class. They are: {there}.")
            weights[places[name]] = _number(weight, f"{key} has {one!r}")
    if not all(0 < weight < math.inf for weight in weights):
        raise ValueError(f"{key}: every weight has to be above 0; found {weights}.")
    return weights


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{where}: {text!r} is not a number.") from error
