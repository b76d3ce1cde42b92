#!/usr/bin/env python3
"""Draw the images of docs/metrics.md and docs/guided.md from one image of the nuclei (CC0), and print their numbers.

The result that is scored there is none of a network: pixels brighter than Otsu's threshold, whose connected parts are
the objects. So everybody gets the same.

DETECTRON2_DATASETS=FOLDER draw_metrics.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

import mask2former
from mask2former.dashboard.tally import PixelTally
from mask2former.data.guide import KINDS, coarse_mask
from mask2former.data.images.read import read_image
from mask2former.data.mapper.annotations import instance_objects
from mask2former.visualization import Region, draw_regions, make_region

FOLDER = Path(mask2former.__file__).parents[1] / "docs" / "metrics"
DATA = "nuclei_val_instance_fluo256"
IMAGE = 21  # index in the data set
GAP = 8  # pixels between drawings
RIGHT, SPURIOUS, MISSED = (60, 180, 75), (230, 60, 50), (70, 130, 255)


def main() -> None:
    record = DatasetCatalog.get(DATA)[IMAGE]
    whole = read_image(record["file_name"], "RGB")
    truth = instance_objects(record, whole.shape[:2], 1).to_masks()[1].numpy()
    _, bright = cv2.threshold(whole[..., 0], 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    count, parts = cv2.connectedComponents(bright)
    found = np.stack([parts == number for number in range(1, count)])
    print(f"{Path(record['file_name']).name}: {len(truth)} nuclei, {len(found)} connected parts")
    _print_pixels(truth.any(0), found.any(0))
    _print_objects(truth, found)

    image = cv2.convertScaleAbs(whole, alpha=255 / whole.max())  # dark as it is
    regions = [_region(mask) for mask in truth]
    FOLDER.mkdir(exist_ok=True)
    grey = draw_regions(image, [], names=False)
    drawn = [draw_regions(image, regions, mode, names=False) for mode in ("masks", "overlay", "boxes")]
    _save("views", [grey, *drawn])
    _save("errors", [_compared(image, truth.any(0), found.any(0))])
    nucleus = max((mask for mask in truth), key=np.count_nonzero)
    rng = np.random.default_rng(4)
    coarse = [nucleus, *(coarse_mask(nucleus, kind, rng) for kind in KINDS)]
    rows, columns = (slice(max(0, int(x.min()) - 20), int(x.max()) + 20) for x in nucleus.nonzero())
    _save(
        "coarse", [draw_regions(image[rows, columns], [_region(mask[rows, columns])], names=False) for mask in coarse]
    )


def _print_pixels(truth: np.ndarray, found: np.ndarray) -> None:
    tally = PixelTally(np.bincount((truth * 2 + found).ravel(), minlength=4).reshape(2, 2))
    print("pixels:", ", ".join(f"{name} {100 * values[1]:.1f}" for name, values in tally.quality().items()))


def _print_objects(truth: np.ndarray, found: np.ndarray) -> None:
    """Print the scores of objects; those of an IoU above 0.5 match, and no two match the same one."""
    common = np.einsum("ihw,jhw->ij", truth.astype(np.int64), found.astype(np.int64))
    iou = common / (truth.sum((1, 2))[:, None] + found.sum((1, 2)) - common)
    right = int((iou > 0.5).sum())
    precision, recall = right / len(found), right / len(truth)
    quality = iou[iou > 0.5].mean()
    recognised = 2 * right / (len(found) + len(truth))
    print(f"objects: {right} right, precision {100 * precision:.1f}, recall {100 * recall:.1f}", end=", ")
    print(f"SQ {100 * quality:.1f}, RQ {100 * recognised:.1f}, PQ {100 * quality * recognised:.1f}")


def _region(mask: np.ndarray) -> Region:
    return make_region(mask, 0, True, MetadataCatalog.get(DATA))


def _compared(image: np.ndarray, truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Colour the pixels that are right, spurious and missed."""
    drawn = image // 2
    for mask, colour in ((truth & found, RIGHT), (found & ~truth, SPURIOUS), (truth & ~found, MISSED)):
        drawn[mask] = (drawn[mask] + np.array(colour)) // 2
    return cv2.resize(drawn, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)


def _save(name: str, drawings: list[np.ndarray]) -> None:
    """Write drawings beside each other as a png."""
    side = 240 if len(drawings) > 1 else drawings[0].shape[0]
    sized = [cv2.resize(x, (side * x.shape[1] // x.shape[0], side), interpolation=cv2.INTER_AREA) for x in drawings]
    gap = np.full((side, GAP, 3), 255, np.uint8)
    row = np.concatenate([part for one in sized for part in (gap, one)][1:], axis=1)
    Image.fromarray(row).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    sys.exit(main())
