"""Noise and curves."""

from __future__ import annotations

import cv2
import numpy as np


def noise(rng: np.random.Generator, height: int, width: int, rows: float, columns: float) -> np.ndarray:
    """[height, width] float32 of smooth noise, mean 0, about -1 to 1, with so many bumps down and across."""
    cells = rng.uniform(-1, 1, (max(2, round(rows)), max(2, round(columns)))).astype(np.float32)
    return cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)


def wavy(rng: np.random.Generator, positions: np.ndarray, wavelength: float, octaves: int = 3) -> np.ndarray:
    """A smooth random curve over ``positions``, about -1 to 1: sines of falling wavelength and height."""
    curve = np.zeros_like(positions, dtype=np.float32)
    for octave in range(octaves):
        stretch = 2**octave * rng.uniform(0.75, 1.3)
        curve += np.sin(positions * (2 * np.pi * stretch / wavelength) + rng.uniform(0, 2 * np.pi)) / 2**octave
    return (curve / 1.6).astype(np.float32)


def on_ground(
    rng: np.random.Generator, height: int, width: int, horizon: float, fineness: float, stretch: float
) -> np.ndarray:
    """[height, width] float32 of noise that lies on level ground and so grows finer towards the horizon.

    Args:
        horizon: its y; there is nothing but noise of the least size above it.
        fineness: bumps across the bottom of the image.
        stretch: how much longer across than in depth bumps are.
    """
    cells = np.pad(rng.uniform(-1, 1, (128, 128)).astype(np.float32), 4, mode="wrap")  # so that it repeats seamlessly
    tile = 2.6 * cv2.GaussianBlur(cells, (0, 0), 1.0)[4:-4, 4:-4]
    below = np.maximum(np.arange(height, dtype=np.float32) - horizon, height * 0.03) / max(height - horizon, 1)
    columns = (np.arange(width, dtype=np.float32) - width * 0.5) * (fineness / width)
    map_x = columns[None, :] / below[:, None]
    map_y = np.repeat((fineness * stretch / (below + 0.25))[:, None], width, axis=1)
    return cv2.remap(tile, map_x % 128, (map_y % 128).astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
