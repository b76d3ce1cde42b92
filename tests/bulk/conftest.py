"""A trained model of random weights, and images of it in several forms."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mask2former.bulk import Settings


def png(seed, size=(48, 64)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture
def images(tmp_path):
    """Seven images in two folders, one of another size."""
    root = tmp_path / "images"
    (root / "more").mkdir(parents=True)
    for number in range(5):
        (root / f"{number}.png").write_bytes(png(number, (40, 40) if number == 3 else (48, 64)))
    for number in range(2):
        (root / "more" / f"{number}.jpg").write_bytes(png(10 + number))
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture
def settings(small_training):
    return Settings(str(small_training), "instance", threshold=0.01, threads=1)
