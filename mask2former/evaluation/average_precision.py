"""COCO's average precision, computed by hotcoco or pycocotools."""

import contextlib
import functools
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.evaluation.coco_evaluation import COCOevalMaxDets
from pycocotools.coco import COCO

from mask2former.evaluation.boundary import BoundaryEval
from mask2former.evaluation.hotcoco_api import hotcoco
from mask2former.evaluation.overlaps import require_shares

logger = logging.getLogger(__name__)

REFUSALS = (ValueError, TypeError, OverflowError, RuntimeError, KeyError)  # what hotcoco raises
SHAPE = {"bbox": "bbox", "segm": "segmentation", "boundary": "segmentation"}  # kind -> field that is compared


class AveragePrecision:
    """Score results against one ground truth.

    Args:
        truth: COCO instances, loaded by pycocotools.
        truth_file: where they were loaded from, for messages.
    """

    def __init__(self, truth: COCO, truth_file: str) -> None:
        self.truth = truth
        self.truth_file = truth_file

    def __call__(
        self,
        results: Sequence[Mapping[str, Any]],
        kind: str,
        max_dets: Sequence[int] = (1, 10, 100),
        img_ids: Sequence[int] | None = None,
    ) -> Any:
        """Compute average precision and recall.

        Args:
            results: at least one, in COCO's format, with ``bbox`` or ``segmentation`` as ``kind`` needs.
            kind: ``bbox``, ``segm``, or ``boundary`` (Boundary IoU; always by pycocotools' matching).
            max_dets: three limits of the detections in an image; precision is taken at the last.
            img_ids: score only these images; None: all.

        Returns:
            An evaluation with ``stats`` [12] and ``eval``, as pycocotools names and orders them. Its report is logged.

        Raises:
            ValueError: an IoU is outside of [0, 1]. Not checked with hotcoco, which does not expose its IoUs.
        """
        # Given a box, pycocotools takes the box's area for the mask's, which changes small, medium and large.
        fields = ("image_id", "category_id", "score", SHAPE[kind])
        plain = [{field: result[field] for field in fields} for result in results]
        report = io.StringIO()
        with contextlib.redirect_stdout(report), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "hotcoco: max_dets", UserWarning)
            evaluation = self._evaluation(plain, kind)
            evaluation.params.maxDets = list(max_dets)
            if img_ids is not None:
                evaluation.params.imgIds = list(img_ids)
            evaluation.evaluate()
            self._require_shares(evaluation)
            evaluation.accumulate()
            evaluation.summarize()
        logger.info("COCO's report:\n%s", report.getvalue().rstrip())
        return evaluation

    def _require_shares(self, evaluation: Any) -> None:
        for (image_id, _), iou in getattr(evaluation, "ious", {}).items():  # hotcoco does not expose them
            try:
                require_shares(np.asarray(iou, float))
            except ValueError as error:
                name = self.truth.imgs[image_id].get("file_name", image_id)
                raise ValueError(f"{self.truth_file}, image {name}: {error}.") from error

    def _evaluation(self, results: list[dict[str, Any]], kind: str) -> Any:
        if kind == "boundary":
            return BoundaryEval(self.truth, self.truth.loadRes(results))
        if self._fast is not None:
            module, truth = self._fast
            try:
                return module.COCOeval(truth, truth.loadRes(results), kind)
            except REFUSALS as error:
                self._warn(error)
        return COCOevalMaxDets(self.truth, self.truth.loadRes(results), kind)

    @functools.cached_property
    def _fast(self) -> tuple[Any, Any] | None:
        """hotcoco and its copy of the ground truth; None if it is not installed or refuses the ground truth."""
        module = hotcoco()
        if module is None:
            return None
        # Keys without effect on scores are left out: hotcoco rejects the `licenses: null` of Detectron2's converter.
        scored = {key: self.truth.dataset.get(key, []) for key in ("images", "annotations", "categories")}
        try:
            return module, module.COCO(scored)
        except REFUSALS as error:
            self._warn(error)
            return None

    def _warn(self, error: Exception) -> None:
        logger.warning(
            "%s: hotcoco refuses it (%s), so pycocotools scores it, which is slower.", self.truth_file, error
        )
