"""Panoptic quality: each image is compared with its ground truth as soon as it is predicted."""

import dataclasses
import functools
import itertools
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation import COCOPanopticEvaluator
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from PIL import Image
from tabulate import tabulate

from mask2former.data.images.read import read_panoptic_ids
from mask2former.data.mapper.annotations import NO_SEGMENT_IN_IT
from mask2former.evaluation.handover import OnImage, PanopticImage
from mask2former.evaluation.overlaps import Overlaps, match, panoptic_overlaps
from mask2former.evaluation.panoptic_quality import Tallies, Tally, panoptic_quality, tally
from mask2former.evaluation.panoptic_truth import PanopticTruth, panoptic_truth
from mask2former.evaluation.rehearsal import size_of
from mask2former.files import whole_file, write_text

logger = logging.getLogger(__name__)

GROUPS = {"All": "", "Things": "_th", "Stuff": "_st"}


class PanopticEvaluator(COCOPanopticEvaluator):
    """Compute Detectron2's scores, which are panopticapi's, without writing and reading images in between.

    Args:
        dataset_name: its metadata has ``panoptic_json``, ``panoptic_root`` and the ids of things and stuff.
        output_dir: where ``predictions.json`` is written; None: nowhere.
        write_images: also write the predicted segments, as COCO's pngs, to ``panoptic`` in ``output_dir``.

    Attributes:
        on_image: called with the segments and matches of each image that has ground truth; None: not called.

    Raises:
        ValueError: ``write_images`` without ``output_dir``.
    """

    accepts_label_maps = True  # it reads no semantic result
    on_image: OnImage | None = None

    def __init__(self, dataset_name: str, output_dir: str | None = None, *, write_images: bool = False) -> None:
        super().__init__(dataset_name, output_dir)
        if write_images and output_dir is None:
            raise ValueError("PanopticEvaluator: write_images needs an output_dir.")
        self._images = Path(output_dir, "panoptic") if write_images and output_dir else None
        if self._images:
            PathManager.mkdirs(str(self._images))

    def reset(self) -> None:
        super().reset()
        self._tallies: list[tuple[Any, Tallies]] = []  # (image id, its counts)

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Compare images with their ground truth.

        ``panoptic_seg`` of an output holds ids [H, W], 0 for no segment, and the segments' ``id``, ``category_id`` and
        ``isthing`` (then categories are contiguous; without ``isthing`` they are the file's).

        Raises:
            ValueError: the ids are not those of the segments, the size is not the ground truth's, a class is not in the
                data set, or the ground truth has a fault. The message names the image.
        """
        for one, output in zip(inputs, outputs, strict=True):
            ids, segments = output["panoptic_seg"]
            ids = ids.cpu().numpy()
            if segments is None:
                ids, segments = self._by_label_divisor(ids)
            segments = self._with_file_ids(one, segments)
            name = os.path.splitext(os.path.basename(one["file_name"]))[0] + ".png"
            self._predictions.append({"image_id": one["image_id"], "file_name": name, "segments_info": segments})
            if self._images:
                rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)
                with whole_file(self._images / name, sync=False) as file:
                    Image.fromarray(rgb).save(file, format="PNG")
            self._score(one, ids, segments)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Return {"panoptic_seg": {"PQ", "SQ", "RQ", and each with "_th" and "_st"}}, in percent.

        None on other processes than the main one; empty if the ground truth has no annotations.

        Raises:
            ValueError: an image of the ground truth has no prediction.
        """
        comm.synchronize()
        gathered = comm.gather((self._predictions, self._tallies))
        if not comm.is_main_process():
            return None
        truth = self._truth
        if self._output_dir:
            results = {
                **truth.rest,
                "annotations": list(itertools.chain(*(predictions for predictions, _ in gathered))),
            }
            # json.dump writes piece by piece, which takes five times as long.
            write_text(Path(self._output_dir, "predictions.json"), json.dumps(results))
        if not truth.annotations:
            logger.info("%s has no annotations: nothing is scored.", self._metadata.panoptic_json)
            return {}
        tallies = dict(itertools.chain(*(part for _, part in gathered)))
        missing = [image_id for image_id in truth.annotations if image_id not in tallies]
        if missing:
            raise ValueError(
                f"{len(missing)} images have no panoptic prediction, the first with image_id {missing[0]!r}."
            )
        # Summed in the ground truth's order, so that the last digit does not depend on the number of processes.
        scores = panoptic_quality((tallies[image_id] for image_id in truth.annotations), truth.categories)
        rows = [[name, *(100 * scores[name][key] for key in ("pq", "sq", "rq")), scores[name]["n"]] for name in GROUPS]
        table = tabulate(rows, headers=("", "PQ", "SQ", "RQ", "#categories"), tablefmt="pipe", floatfmt=".3f")
        logger.info("Panoptic quality:\n%s", table)
        return {
            "panoptic_seg": {
                f"{key.upper()}{suffix}": 100 * float(scores[name][key])
                for name, suffix in GROUPS.items()
                for key in ("pq", "sq", "rq")
            }
        }

    def counts(self) -> dict[str, Any]:
        """Return what was counted since :meth:`reset`, for JSON."""
        tallies = [[id_, [[key, vars(tally)] for key, tally in found.items()]] for id_, found in self._tallies]
        return {"predictions": self._predictions, "tallies": tallies}

    def add_counts(self, counts: Mapping[str, Any]) -> None:
        """Add what :meth:`counts` gave."""
        self._predictions += counts["predictions"]
        self._tallies += [(id_, {key: Tally(**tally) for key, tally in found}) for id_, found in counts["tallies"]]

    def rehearse(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Score one segment over the whole of one image; see :mod:`mask2former.evaluation.rehearsal`.

        Raises:
            ValueError: the ground truth has a fault, or does not fit the records or the metadata.
        """
        truth, file = self._truth, self._metadata.panoptic_json
        classes = {**self._stuff_contiguous_id_to_dataset_id, **self._thing_contiguous_id_to_dataset_id}
        unknown = sorted(set(classes.values()) - {category["id"] for category in truth.categories})
        if unknown:
            raise ValueError(
                f"{file}: category ids {unknown} of the metadata of {self._metadata.name} are not among its categories."
            )
        if not truth.annotations:
            return
        if missing := truth.annotations.keys() - {record["image_id"] for record in records}:
            raise ValueError(
                f"{file}: {len(missing)} of its {len(truth.annotations)} annotations are of images that the data set "
                f"does not list, such as {min(missing, key=str)!r}, so they would have no prediction."
            )
        record = next(record for record in records if record["image_id"] in truth.annotations)
        segment = {"id": 1, "category_id": min(classes.values())}
        self._score(record, np.ones(size_of(record), np.int32), [segment])
        panoptic_quality((tallies for _, tallies in self._tallies), truth.categories)

    @functools.cached_property
    def _truth(self) -> PanopticTruth:
        return panoptic_truth(self._metadata.panoptic_json, self._metadata.panoptic_root)

    def _with_file_ids(self, one: Mapping[str, Any], segments: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        try:
            return [self._convert_category_id(dict(segment)) for segment in segments]
        except KeyError as error:
            raise ValueError(
                f"Image {one['image_id']}: the model predicts the class {error}, which {self._metadata.name} lacks."
            ) from error

    def _score(self, one: Mapping[str, Any], ids: np.ndarray, segments: list[dict[str, Any]]) -> None:
        """Compare an image with its ground truth, if it has any; ``segments`` have the file's categories."""
        image_id, truth = one["image_id"], self._truth.annotations.get(one["image_id"])
        if truth is None:
            return
        try:
            true_ids = read_panoptic_ids(truth.png)
            overlaps = self._present(panoptic_overlaps(true_ids, truth.segments, ids, segments))
        except ValueError as error:
            raise ValueError(f"Image {image_id}, ground truth {truth.png}: {error}.") from error
        matches = match(overlaps)
        if self.on_image:
            pair = (true_ids, truth.segments), (ids, segments)
            self.on_image(PanopticImage(one["file_name"], overlaps, matches, *pair))
        self._tallies.append((image_id, tally(overlaps, matches)))

    @staticmethod
    def _present(overlaps: Overlaps) -> Overlaps:
        """Leave out true segments that are listed but have no pixel, as training does."""
        there = overlaps.true_areas > 0
        if there.all():
            return overlaps
        if not there.any():
            raise ValueError(NO_SEGMENT_IN_IT.format(len(there)))
        rows = {key: getattr(overlaps, key)[there] for key in ("true_classes", "true_areas", "shared", "iou")}
        return dataclasses.replace(overlaps, **rows)

    def _by_label_divisor(self, labels: np.ndarray) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Convert the output of models that predict category * divisor + number for each pixel, and -1 for none."""
        things = set(self._thing_contiguous_id_to_dataset_id)
        categories = {
            int(label): int(label) // self._metadata.label_divisor for label in np.unique(labels[labels >= 0])
        }
        return labels + 1, [
            {"id": label + 1, "category_id": category, "isthing": category in things}
            for label, category in categories.items()
        ]
