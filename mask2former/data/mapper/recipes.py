"""Augmentations of the mapper's presets, as the configuration has them."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.data import transforms as T

from mask2former.data.mapper.augmentation import large_scale_jitter, resize_and_crop
from mask2former.data.mapper.canvas import fit_into_canvas, place_in_canvas


def build_augmentations(cfg: CfgNode, kind: str, task: str) -> list[T.Augmentation]:
    """Return the augmentations of a kind, "crop", "lsj", "kmax" or "max", for panoptic, instance or semantic data."""
    if kind in ("kmax", "max"):
        return _canvas(cfg, kind)
    return _jitter(cfg) if kind == "lsj" else _crop(cfg, task)


def _jitter(cfg: CfgNode) -> list[T.Augmentation]:
    inputs = cfg.INPUT
    return large_scale_jitter(inputs.IMAGE_SIZE, inputs.MIN_SCALE, inputs.MAX_SCALE, inputs.RANDOM_FLIP)


def _crop(cfg: CfgNode, task: str) -> list[T.Augmentation]:
    inputs = cfg.INPUT
    return resize_and_crop(
        short_sides=inputs.MIN_SIZE_TRAIN,
        max_size=inputs.MAX_SIZE_TRAIN,
        sampling=inputs.MIN_SIZE_TRAIN_SAMPLING,
        crop=(inputs.CROP.TYPE, tuple(inputs.CROP.SIZE)) if inputs.CROP.ENABLED else None,
        # A class's share says little about instances, since most pixels belong to none. As published.
        max_class_area=1.0 if task == "instance" else inputs.CROP.SINGLE_CATEGORY_MAX_AREA,
        color_format=inputs.FORMAT if inputs.COLOR_AUG_SSD else None,
        flip=inputs.RANDOM_FLIP,
        size_divisibility=inputs.SIZE_DIVISIBILITY,
    )


def _canvas(cfg: CfgNode, kind: str) -> list[T.Augmentation]:
    inputs = cfg.INPUT
    # Colours are a part of kMaX-DeepLab's published recipe, and of MaX-DeepLab's larger one in another form.
    colors = inputs.FORMAT if kind == "kmax" or inputs.COLOR_AUG_SSD else None
    make = fit_into_canvas if kind == "kmax" else place_in_canvas
    return make(
        tuple(inputs.CANVAS) or (inputs.IMAGE_SIZE,) * 2, inputs.MIN_SCALE, inputs.MAX_SCALE, colors, inputs.RANDOM_FLIP
    )


def scaled(cfg: CfgNode, scale: float) -> CfgNode:
    """Return a configuration whose images are ``scale`` times as large, on a canvas of the same size."""
    if scale == 1:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    inputs = cfg.INPUT
    inputs.MIN_SCALE, inputs.MAX_SCALE = inputs.MIN_SCALE * scale, inputs.MAX_SCALE * scale
    inputs.MIN_SIZE_TRAIN = type(inputs.MIN_SIZE_TRAIN)(max(1, round(side * scale)) for side in inputs.MIN_SIZE_TRAIN)
    inputs.CROP.ENABLED = False
    return cfg
