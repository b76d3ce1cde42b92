"""Boundary IoU (Cheng et al., arXiv 2103.16562): the overlap of outlines, which shows errors of large masks too."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util
from detectron2.evaluation.coco_evaluation import COCOevalMaxDets
from pycocotools.coco import COCO

DILATION_RATIO = 0.02  # width of the boundary relative to the image's diagonal, as published


def boundary_width(height: int, width: int, ratio: float = DILATION_RATIO) -> int:
    """Return the width of the boundary in pixels, at least 1."""
    return max(1, round(ratio * float(np.hypot(height, width))))


def boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """Return the part of a mask that lies within ``width`` pixels of its outline (section 3.2).

    It is what ``width`` erosions by a 3x3 square remove, or one by a square of 2 * width + 1; pixels beyond the image
    count as outside the mask.

    Args:
        mask: [H, W] uint8 or bool, 0 or 1.
        width: in pixels, at least 1.

    Returns:
        [H, W] uint8, 0 or 1.
    """
    mask = np.ascontiguousarray(mask, dtype=np.uint8)
    result = mask.copy()
    x, y, columns, rows = cv2.boundingRect(mask)
    if columns == 0:
        return result
    # Outside of its bounding box there is no mask either, so the box alone is eroded.
    box = mask[y : y + rows, x : x + columns]
    if min(rows, columns) > 2 * width:
        square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
        inner = cv2.erode(box, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        result[y : y + rows, x : x + columns] -= inner
    return result


def label_boundary(labels: np.ndarray, width: int) -> np.ndarray:
    """Return how far each label is above the least label within ``width`` pixels of it, which is 0 beyond the image.

    Detectron2's main branch takes this for the boundary of a map of labels. It is 0 within a region and on the side of
    the smaller label, and elsewhere it depends on how the classes are numbered: it is not a class, and the scores made
    of it are not those of Cheng et al.

    Args:
        labels: [H, W] uint8.
        width: in pixels, at least 1.

    Returns:
        [H, W] uint8.
    """
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return labels - cv2.erode(labels, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)


class BoundaryEval(COCOevalMaxDets):
    """pycocotools' evaluation of masks with min(mask IoU, boundary IoU) in place of mask IoU (section 4.2).

    Args:
        truth, results: COCO instances with masks.
        ratio: see :data:`DILATION_RATIO`.
    """

    def __init__(self, truth: COCO, results: COCO, ratio: float = DILATION_RATIO) -> None:
        super().__init__(truth, results, "segm")
        self.ratio = ratio

    def computeIoU(self, imgId: Any, catId: int) -> Any:
        """Return the IoU [D, G] float64 for one image and category, best scores first; [] if both are empty."""
        overlaps = super().computeIoU(imgId, catId)
        if len(overlaps) == 0:
            return overlaps
        truths, results = self._of(self._gts, imgId, catId), self._of(self._dts, imgId, catId)
        order = np.argsort([-result["score"] for result in results], kind="mergesort")[: self.params.maxDets[-1]]
        outlines = mask_util.iou(
            [self._boundary(results[i]) for i in order],
            [self._boundary(truth) for truth in truths],
            [int(truth["iscrowd"]) for truth in truths],
        )
        return np.minimum(overlaps, outlines)

    def _of(self, annotations: Any, image: Any, category: int) -> list[dict[str, Any]]:
        categories = [category] if self.params.useCats else self.params.catIds
        return [annotation for id_ in categories for annotation in annotations[image, id_]]

    def _boundary(self, annotation: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the boundary of an annotation's mask as run lengths."""
        mask = mask_util.decode(annotation["segmentation"])
        width = boundary_width(mask.shape[0], mask.shape[1], self.ratio)
        return mask_util.encode(np.asfortranarray(boundary(mask, width)))
