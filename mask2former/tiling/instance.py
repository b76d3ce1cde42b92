"""Joining of instances."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from mask2former.tiling.grid import Span, Tile
from mask2former.tiling.merge import UnionFind, same


@dataclass
class Piece:
    """The part of an object that one tile sees: a bool mask whose corner is at (top, left) of the image."""

    category: int
    score: float
    top: int
    left: int
    mask: Tensor

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1), right and bottom exclusive."""
        height, width = self.mask.shape
        return self.left, self.top, self.left + width, self.top + height


@dataclass
class Strip:
    """The pieces of one tile inside its overlap with a neighbour.

    Attributes:
        rows, columns: the overlap, in pixels of the image.
        numbers: numbers of the n pieces that reach into it.
        masks: float32 [n, h * w], 0 or 1.
    """

    rows: Span
    columns: Span
    numbers: list[int]
    masks: Tensor


@dataclass
class InstanceCanvas:
    """Objects collected from tiles, which come row by row from the left.

    Each is the union of its pieces; its score is their mean weighted by area. The number of objects is not limited.

    Attributes:
        size: (H, W).
        compact: return masks cropped to their boxes.
    """

    size: tuple[int, int]
    compact: bool
    name: str = "instances"
    pieces: list[Piece] = field(default_factory=list)
    groups: UnionFind = field(default_factory=UnionFind)
    waiting: list[tuple[Tile, list[int]]] = field(default_factory=list)

    def add(self, tile: Tile, instances: Instances) -> None:
        numbers = self._keep(tile, instances)
        row, column = tile.place
        self.waiting = [one for one in self.waiting if one[0].place >= (row - 1, column)]
        for neighbour, known in self.waiting:
            if neighbour.place in ((row, column - 1), (row - 1, column)):
                shared = tile.shared_with(neighbour)
                self._join(self._strip(known, *shared), self._strip(numbers, *shared))
        self.waiting.append((tile, numbers))

    def _keep(self, tile: Tile, instances: Instances) -> list[int]:
        """Store the pieces that are not empty; return their numbers."""
        numbers = []
        masks = instances.pred_masks.cpu().bool()
        for mask, category, score in zip(
            masks, instances.pred_classes.tolist(), instances.scores.tolist(), strict=True
        ):
            rows, columns = (mask.any(axis).nonzero().flatten() for axis in (1, 0))
            if not len(rows):
                continue
            top, left = int(rows[0]), int(columns[0])
            crop = mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1].clone()
            self.pieces.append(Piece(category, score, tile.rows[0] + top, tile.columns[0] + left, crop))
            numbers.append(self.groups.new())
        return numbers

    def _strip(self, numbers: list[int], rows: Span, columns: Span) -> Strip:
        shape = (rows[1] - rows[0], columns[1] - columns[0])
        reaching, masks = [], []
        for number in numbers:
            canvas = torch.zeros(shape, dtype=torch.bool)
            _paste(self.pieces[number], canvas, rows[0], columns[0])
            if canvas.any():
                reaching.append(number)
                masks.append(canvas.flatten())
        stacked = torch.stack(masks).float() if masks else torch.zeros(0, shape[0] * shape[1])
        return Strip(rows, columns, reaching, stacked)

    def _join(self, known: Strip, new: Strip) -> None:
        common = known.masks @ new.masks.T
        for i, j in same(common, known.masks.sum(1), new.masks.sum(1)):
            one, two = known.numbers[i], new.numbers[j]
            if self.pieces[one].category == self.pieces[two].category:
                self.groups.join(one, two)

    def result(self) -> Instances:
        """Return instances with the model's fields, or with ``mask_crops`` if ``compact``."""
        members: dict[int, list[Piece]] = {}
        for number, piece in enumerate(self.pieces):
            members.setdefault(self.groups.find(number), []).append(piece)
        whole = [_united(pieces) for pieces in members.values()]
        result = Instances(self.size)
        result.pred_boxes = Boxes(torch.tensor([piece.box for piece in whole], dtype=torch.float32).view(-1, 4))
        result.scores = torch.tensor([piece.score for piece in whole])
        result.pred_classes = torch.tensor([piece.category for piece in whole], dtype=torch.int64)
        if self.compact:
            result.mask_crops = [piece.mask for piece in whole]
            return result
        result.pred_masks = torch.zeros(len(whole), *self.size, dtype=torch.bool)
        for piece, mask in zip(whole, result.pred_masks, strict=True):
            _paste(piece, mask, 0, 0)
        return result


def whole_masks(instances: Instances, chosen: list[int]) -> Tensor:
    """Expand the chosen masks of compact results to bool [n, H, W]; see :class:`~mask2former.tiling.TiledInference`."""
    masks = torch.zeros(len(chosen), *instances.image_size, dtype=torch.bool)
    for number, mask in zip(chosen, masks, strict=True):
        left, top = (int(x) for x in instances.pred_boxes.tensor[number, :2])
        crop = instances.mask_crops[number]
        mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return masks


def _united(pieces: list[Piece]) -> Piece:
    if len(pieces) == 1:
        return pieces[0]
    boxes = torch.tensor([piece.box for piece in pieces])
    (left, top), (right, bottom) = boxes[:, :2].amin(0).tolist(), boxes[:, 2:].amax(0).tolist()
    mask = torch.zeros(bottom - top, right - left, dtype=torch.bool)
    for piece in pieces:
        _paste(piece, mask, top, left)
    areas = [int(piece.mask.sum()) for piece in pieces]
    score = sum(piece.score * area for piece, area in zip(pieces, areas, strict=True)) / sum(areas)
    return Piece(pieces[0].category, score, top, left, mask)


def _paste(piece: Piece, canvas: Tensor, top: int, left: int) -> None:
    """Paste a piece onto a bool [h, w] whose corner is at (top, left) of the image, cropping it to that."""
    x0, y0, x1, y1 = piece.box
    first, last = max(y0, top), min(y1, top + canvas.shape[0])
    begin, end = max(x0, left), min(x1, left + canvas.shape[1])
    if first < last and begin < end:
        canvas[first - top : last - top, begin - left : end - left] |= piece.mask[
            first - y0 : last - y0, begin - x0 : end - x0
        ]
