"""A trained predictor of random weights, and an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mask2former import Predictor

EVERYTHING = 0.01  # a threshold that random weights pass
HEIGHT, WIDTH = 48, 64


@pytest.fixture(scope="session")
def folder(small_training: Path) -> Path:
    return small_training


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor(folder, threshold=EVERYTHING)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
