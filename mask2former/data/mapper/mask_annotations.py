"""The objects of one image in a form that augmentations move cheaply.

Moving N full masks through every resize and crop costs N times the image. Objects that do not overlap, as in panoptic
and semantic annotations, share a label image, a layer, which is moved once; it holds up to 255. Others go into the
next layer. Polygons stay points until the end and are drawn at the final size, so they stay sharp.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from fvcore.transforms.transform import Transform
from torch import Tensor

from mask2former.data.mapper.geometry import Grid, flatten_transforms
from mask2former.data.mapper.label_maps import FEW, Layer, PaintedLayer, render, values_in
from mask2former.data.mapper.polygons import Polygon, draw_outlines


@dataclass
class MaskAnnotations:
    """N objects, numbered 0 to N - 1.

    Attributes:
        size: (H, W) of the image, in pixels.
        classes: [N] int64, contiguous class ids.
        layers: objects given by pixels.
        polygons: objects given by outlines.
        hidden: numbers of objects that get no mask, such as crowds; those of layers are in the class map all the same.
    """

    size: tuple[int, int]
    classes: np.ndarray
    layers: list[Layer] = field(default_factory=list)
    polygons: list[Polygon] = field(default_factory=list)
    hidden: frozenset[int] = frozenset()

    grid: Grid = field(init=False)  # where the layers' pixels are now; they are drawn only when needed

    def __post_init__(self) -> None:
        self.grid = Grid.of(self.size)

    def transform(self, transform: Transform, size: tuple[int, int]) -> None:
        """Move all objects as the image moved; ``size`` is the image's new (H, W).

        Raises:
            ValueError: the labels get another size than the image.
        """
        for step in flatten_transforms(transform):
            self._move(step)
        if self.grid.size != size:
            raise ValueError(
                f"{transform} gives labels of size (height, width) {self.grid.size}, but an image of size {size}."
            )
        self.size = size

    def _move(self, step: Transform) -> None:
        grid = self.grid.moved(step)
        if grid is None:
            labels = [step.apply_segmentation(self._drawn(layer)) for layer in self.layers]
            self.layers = [PaintedLayer(moved, layer.members) for moved, layer in zip(labels, self.layers, strict=True)]
            frame = labels[0] if labels else step.apply_segmentation(np.zeros(self.grid.size, np.uint8))
            grid = Grid.of(frame.shape)
        self.grid = grid
        if self.polygons:
            ends = np.cumsum([len(polygon.points) for polygon in self.polygons])
            # Points that leave the image are clipped when drawn; cropping the outlines themselves needs shapely.
            # Concatenating copies them, which matters: transforms work in place.
            moved = step.apply_coords(np.concatenate([polygon.points for polygon in self.polygons]))
            for polygon, points in zip(self.polygons, np.split(moved, ends[:-1]), strict=True):
                polygon.points = points

    def class_map(self, window: tuple[slice, slice] | None = None) -> np.ndarray:
        """Return the map of class + 1, [H, W] unsigned, 0 for no object; objects given by polygons are left out.

        Args:
            window: the rows and columns to return; None: all.
        """
        grid = self.grid if window is None else Grid(self.grid.rows[window[0]], self.grid.columns[window[1]])
        dtype = np.uint8 if len(self.classes) == 0 or self.classes.max() < 255 else np.uint16
        result = np.zeros(grid.size, dtype)
        inside = result[grid.inside()]
        for number, layer in enumerate(self.layers):
            table = np.zeros(256, dtype)
            table[1 : len(layer.members) + 1] = self.classes[layer.members] + 1
            classes = cv2.LUT(render(layer, grid), table) if inside.size else inside
            np.copyto(inside, classes, where=classes > 0 if number else True)
        return result

    def class_areas(self, window: tuple[slice, slice]) -> np.ndarray:
        """Return the pixels of each class in a part of :meth:`class_map`, int64, those of no class left out."""
        labels = self.class_map(window)
        if len(self.classes) > FEW:
            return np.bincount(labels.ravel())[1:]
        present = set((self.classes + 1).tolist())
        return np.array([np.count_nonzero(labels == label) for label in present], np.int64)

    def to_masks(self) -> tuple[Tensor, Tensor]:
        """Draw the objects that still have a pixel and are not hidden, in the order of their numbers.

        Returns:
            Their classes [n] int64 and masks [n, H, W] bool.
        """
        members, masks = self.drawn()
        return torch.from_numpy(self.classes[members]), masks

    def drawn(self) -> tuple[list[int], Tensor]:
        """Return the numbers of the objects that still have a pixel, ascending, and their masks [n, H, W] bool."""
        seen_outlines = [outline for outline in self.polygons if outline.instance_index not in self.hidden]
        outlines = draw_outlines(seen_outlines, self.size)
        blocks = [(layer.members, render(layer, self.grid)) for layer in self.layers]
        values = [
            [value for value in values_in(block, len(members)) if members[value - 1] not in self.hidden]
            for members, block in blocks
        ]

        kept = set(outlines)
        for (members, _), seen in zip(blocks, values, strict=True):
            kept.update(members[value - 1] for value in seen)
        row = {member: i for i, member in enumerate(sorted(kept))}
        # Untouched zeros cost no memory, so a mask takes that of its own rows, not the padding's.
        masks = np.zeros((len(row), *self.size), dtype=bool)
        rows, columns = self.grid.inside()
        inside = masks[:, rows, columns]
        for (members, block), seen in zip(blocks, values, strict=True):
            for value in seen:
                np.equal(block, value, out=inside[row[members[value - 1]]])
        for member, (box, drawn) in outlines.items():
            masks[row[member]][box] = drawn
        return list(row), torch.from_numpy(masks)

    def _drawn(self, layer: Layer) -> np.ndarray:
        """Return the layer's labels after the moves so far, [H, W] uint8."""
        labels = np.zeros(self.grid.size, np.uint8)
        labels[self.grid.inside()] = render(layer, self.grid)
        return labels
