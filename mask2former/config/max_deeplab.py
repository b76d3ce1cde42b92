"""Configuration keys of MaX-DeepLab's inference."""

from __future__ import annotations

from detectron2.config import CfgNode as CN


def add_max_deeplab_config(cfg: CN) -> None:
    """Add the keys to ``cfg``, in place, with the values of the published system at 1025 pixels."""
    cfg.MODEL.MAX_DEEPLAB = CN()
    # MODEL.MASK_FORMER.TEST.PANOPTIC_RULE: TwoArgmaxMerger. Queries of at least the first score are kept; a pixel goes
    # to the kept query of the greatest logit, if that has more than the second of the kept ones' probability there.
    test = cfg.MODEL.MAX_DEEPLAB.TEST = CN()
    test.CLASS_THRESHOLD = 0.7
    test.PIXEL_CONFIDENCE_THRESHOLD = 0.4
    # Least area of a thing and of all of a stuff class, in pixels of an image whose longer side is AREA_SIDE; with
    # AREA_SIDE 0, of the image itself. (At 641 pixels, 100 and 1600 are published.)
    test.THING_AREA_LIMIT = 256
    test.STUFF_AREA_LIMIT = 4096
    test.AREA_SIDE = 1025
