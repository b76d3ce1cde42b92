"""Thresholds of the panoptic rules for masks that exclude each other."""

from __future__ import annotations

from dataclasses import dataclass

from detectron2.config import CfgNode


@dataclass(frozen=True)
class MaskwiseThresholds:
    """Thresholds of :class:`~mask2former.modeling.postprocess.MaskwiseMerger` beside ``overlap_threshold``.

    Attributes:
        pixel: a mask is where its probability is above this.
        thing, stuff: queries with a score above this take part.
        class_exponent, mask_exponent: masks are pasted in the order of score ** ``class_exponent`` * mean mask
            probability ** ``mask_exponent``, greatest first.
    """

    pixel: float = 0.4
    thing: float = 0.7
    stuff: float = 0.5
    class_exponent: float = 1.0
    mask_exponent: float = 1.0

    @classmethod
    def from_config(cls, cfg: CfgNode) -> MaskwiseThresholds:
        """Read ``MODEL.KMAX_DEEPLAB.TEST``."""
        test = cfg.MODEL.KMAX_DEEPLAB.TEST
        return cls(
            pixel=test.PIXEL_CONFIDENCE_THRESHOLD,
            thing=test.CLASS_THRESHOLD_THING,
            stuff=test.CLASS_THRESHOLD_STUFF,
            class_exponent=test.REORDER_CLASS_WEIGHT,
            mask_exponent=test.REORDER_MASK_WEIGHT,
        )


@dataclass(frozen=True)
class TwoArgmaxThresholds:
    """Thresholds of :class:`~mask2former.modeling.postprocess.TwoArgmaxMerger`.

    Attributes:
        score: least score of a query that is kept.
        pixel: least share, exclusive, that a pixel's query has of the kept queries' probability there.
        thing_area, stuff_area: least area of a thing, and of all of a stuff class, in pixels of an image whose longer
            side is ``area_side``.
        area_side: in pixels; 0: areas are in pixels of the result.
    """

    score: float = 0.7
    pixel: float = 0.4
    thing_area: float = 256
    stuff_area: float = 4096
    area_side: int = 1025

    @classmethod
    def from_config(cls, cfg: CfgNode) -> TwoArgmaxThresholds:
        """Read ``MODEL.MAX_DEEPLAB.TEST``."""
        test = cfg.MODEL.MAX_DEEPLAB.TEST
        return cls(
            score=test.CLASS_THRESHOLD,
            pixel=test.PIXEL_CONFIDENCE_THRESHOLD,
            thing_area=test.THING_AREA_LIMIT,
            stuff_area=test.STUFF_AREA_LIMIT,
            area_side=test.AREA_SIDE,
        )
