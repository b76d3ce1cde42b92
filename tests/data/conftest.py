"""Small data sets, drawn into a folder of the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode, get_cfg
from PIL import Image

from mask2former.config import add_maskformer2_config
from mask2former.data.mapper import Mapper

HEIGHT, WIDTH = 24, 32


@pytest.fixture
def mapper_cfg() -> Callable[..., CfgNode]:
    """(preset, num_classes, **keys of cfg.INPUT) -> cfg. Without keys: no jitter of the size, no crop, no flip."""

    def build(preset: str, num_classes: int, **inputs: Any) -> CfgNode:
        cfg = get_cfg()
        add_maskformer2_config(cfg)
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = num_classes
        defaults = {
            "FORMAT": "RGB",
            "RANDOM_FLIP": "none",
            "MIN_SIZE_TRAIN": (HEIGHT,),
            "IMAGE_SIZE": 48,
            "MIN_SCALE": 1.0,
            "MAX_SCALE": 1.0,
        }
        for key, value in {**defaults, "DATASET_MAPPER_NAME": preset, **inputs}.items():
            setattr(cfg.INPUT, key, value)
        return cfg

    return build


@pytest.fixture
def make_mapper(mapper_cfg: Callable[..., CfgNode]) -> Callable[..., Mapper]:
    """As ``mapper_cfg``, but the mapper."""
    return lambda preset, num_classes, **inputs: Mapper(mapper_cfg(preset, num_classes, **inputs), True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image of 24 x 32 noise."""
    path = tmp_path / "image.png"
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture
def write_json(tmp_path: Path) -> Callable[[Any], str]:
    """Content -> path of a json file with it."""

    def write(content: Any) -> str:
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content))
        return str(path)

    return write


@pytest.fixture
def save_png(tmp_path: Path) -> Callable[[np.ndarray, str], str]:
    """(array, name) -> path of a png with it."""

    def save(array: np.ndarray, name: str = "labels.png") -> str:
        Image.fromarray(array).save(tmp_path / name)
        return str(tmp_path / name)

    return save
