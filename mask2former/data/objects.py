"""The objects of one picture in a form that augmentations move cheaply.

Moving N full masks through every resize and crop costs N times the picture. Objects that do not overlap fit in one
label picture, which is moved once: a panoptic or semantic annotation always does, 300 nuclei do too. Objects that
overlap go into the next layer. Polygons stay points until the end and are drawn at the final size, so they stay sharp.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from fvcore.transforms.transform import Transform
from pycocotools import mask as coco_mask
from torch import Tensor

LAYER_CAPACITY = 255  # label pictures are uint8 (what Pillow resizes fast), and 0 is "no object"


@dataclass
class Layer:
    """Objects that share no pixel.

    Attributes:
        labels: [H, W] uint8; 0: no object; v: the object ``members[v - 1]``.
        members: numbers of the objects, at most ``LAYER_CAPACITY``.
    """

    labels: np.ndarray
    members: list[int]


@dataclass
class Polygon:
    """One outline of an object (an object may have several).

    Attributes:
        member: number of the object.
        points: [P, 2] float64, (x, y) in pixels; the picture spans [0, W] x [0, H].
    """

    member: int
    points: np.ndarray


@dataclass
class Objects:
    """N objects, numbered 0 to N - 1.

    Attributes:
        size: (H, W) of the picture, in pixels.
        classes: [N] int64, contiguous class ids.
        layers: objects given by pixels.
        polygons: objects given by outlines.
    """

    size: tuple[int, int]
    classes: np.ndarray
    layers: list[Layer] = field(default_factory=list)
    polygons: list[Polygon] = field(default_factory=list)

    def transform(self, transform: Transform, size: tuple[int, int]) -> None:
        """Move all objects in place, as the picture moved; ``size`` is the picture's new (H, W)."""
        for layer in self.layers:
            layer.labels = transform.apply_segmentation(layer.labels)
        if self.polygons:
            ends = np.cumsum([len(polygon.points) for polygon in self.polygons])
            # Points that leave the picture are clipped when drawn; cropping the outlines themselves needs shapely.
            # Concatenating copies them, which matters: transforms work in place.
            moved = transform.apply_coords(np.concatenate([polygon.points for polygon in self.polygons]))
            for polygon, points in zip(self.polygons, np.split(moved, ends[:-1]), strict=True):
                polygon.points = points
        self.size = size

    def class_map(self) -> np.ndarray:
        """[H, W] unsigned integers: class + 1, and 0 where no object is. Objects in layers only, not polygons."""
        dtype = np.uint8 if len(self.classes) == 0 or self.classes.max() < 255 else np.uint16
        result = np.zeros(self.size, dtype)
        for layer in self.layers:
            table = np.zeros(256, dtype)
            table[1 : len(layer.members) + 1] = self.classes[layer.members] + 1
            classes = table[layer.labels]
            np.copyto(result, classes, where=classes > 0)
        return result

    def to_masks(self) -> tuple[Tensor, Tensor]:
        """Draw what is left of the objects, in the order of their numbers.

        Returns:
            classes [n] int64 and masks [n, H, W] bool of the objects that still have a pixel.
        """
        outlines = self._outlines_run_lengths()
        visible = [coco_mask.area(run_lengths) > 0 for run_lengths in outlines.values()]
        outlines = {member: runs for (member, runs), seen in zip(outlines.items(), visible, strict=True) if seen}
        seen_values = [np.flatnonzero(np.bincount(layer.labels.ravel(), minlength=256)[1:]) for layer in self.layers]

        kept = set(outlines)
        for layer, values in zip(self.layers, seen_values, strict=True):
            kept.update(layer.members[value] for value in values)
        row = {member: i for i, member in enumerate(sorted(kept))}
        masks = np.empty((len(row), *self.size), dtype=bool)
        for layer, values in zip(self.layers, seen_values, strict=True):
            for value in values:
                np.equal(layer.labels, value + 1, out=masks[row[layer.members[value]]])
        for member, run_lengths in outlines.items():
            masks[row[member]] = coco_mask.decode(run_lengths)
        return torch.from_numpy(self.classes[list(row)]), torch.from_numpy(masks)

    def _outlines_run_lengths(self) -> dict[int, dict]:
        """The polygons, drawn at the present size; an object's outlines are united."""
        height, width = self.size
        points_of: dict[int, list[np.ndarray]] = {}
        for polygon in self.polygons:
            points_of.setdefault(polygon.member, []).append(polygon.points.reshape(-1))
        return {
            member: coco_mask.merge(coco_mask.frPyObjects(outlines, height, width))
            for member, outlines in points_of.items()
        }


def layers_from_ids(ids: np.ndarray, wanted: list[int]) -> list[Layer]:
    """Layers from a picture of ids.

    Args:
        ids: [H, W] integers, not negative.
        wanted: the ids that are objects, in the order of their numbers; without repetition.

    Returns:
        One layer for each ``LAYER_CAPACITY`` objects.
    """
    layers = []
    for start in range(0, len(wanted), LAYER_CAPACITY):
        chunk = wanted[start : start + LAYER_CAPACITY]
        table = np.zeros(max(int(ids.max(initial=0)), *chunk, 0) + 1, np.uint8)
        table[chunk] = np.arange(1, len(chunk) + 1)
        layers.append(Layer(table[ids], list(range(start, start + len(chunk)))))
    return layers


class LayerPainter:
    """Lays objects into as few layers as hold them without overlap (first fit).

    Works column by column, as COCO's run lengths do, and touches an object's own pixels only.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self._canvases: list[tuple[np.ndarray, list[int]]] = []  # ([W * H] uint8, members)

    def add(self, member: int, pixels: np.ndarray) -> None:
        """Paint object ``member``; ``pixels`` [P] are its places x * H + y."""
        for canvas, members in self._canvases:
            if len(members) < LAYER_CAPACITY and not canvas[pixels].any():
                break
        else:
            canvas, members = np.zeros(self.size[0] * self.size[1], np.uint8), []
            self._canvases.append((canvas, members))
        members.append(member)
        canvas[pixels] = len(members)

    def layers(self) -> list[Layer]:
        height, width = self.size
        return [
            Layer(np.ascontiguousarray(canvas.reshape(width, height).T), members) for canvas, members in self._canvases
        ]
