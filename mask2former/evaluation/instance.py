"""COCO's average precision for any numbering of the classes."""

import copy
import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch import Tensor

from mask2former.data.rle.encode import encode_masks
from mask2former.evaluation.average_precision import AveragePrecision
from mask2former.evaluation.handover import InstanceImage, OnImage
from mask2former.evaluation.instance_truth import truth_of_file, truth_of_records
from mask2former.evaluation.plain_results import save_plain
from mask2former.evaluation.rehearsal import size_of
from mask2former.files import write_text

logger = logging.getLogger(__name__)

KINDS = {"bbox": "boxes", "segm": "masks", "boundary": "boundaries of masks"}


class InstanceEvaluator(COCOEvaluator):
    """Detectron2's COCOEvaluator without its assumption that things have the contiguous ids 0 to n - 1.

    On panoptic data sets, things and stuff share one numbering, and things may have any place in it (ADE20K,
    Cityscapes). Predictions of classes that are not things have no ground truth and are left out.
    Average precision of boxes and masks is computed by hotcoco or the official code; its report is logged.

    Args:
        dataset_name: its metadata has ``json_file`` (COCO instances) and ``thing_dataset_id_to_contiguous_id``. Without
            a file, its records are scored against.
        output_dir: where the predictions are written; None: nowhere.
        max_dets_per_image: number of predictions in an image that count, best scores first; COCO counts 100.
        boundary: also score average precision by Boundary IoU (arXiv 2103.16562), as "boundary".

    Attributes:
        evaluations: {kind: COCO's evaluation, or None without predictions} of the last :meth:`evaluate`; a report
            takes curves and classes from them.
        on_image: called with each image that has predicted masks; None: not called.

    Raises:
        ValueError: the ground truth has a fault, which the message names with file and id; or a thing in the metadata
            is not a category of the file.
    """

    accepts_label_maps = True  # it reads no semantic result
    on_image: OnImage | None = None
    _metadata: Metadata
    _results: dict[str, dict[str, float]]

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        max_dets_per_image: int = 100,
        *,
        boundary: bool = False,
    ) -> None:
        # Skip COCOEvaluator's __init__, which reads the annotation file without checking it.
        super(COCOEvaluator, self).__init__()
        self._logger, self._distributed, self._output_dir = logger, True, output_dir
        self._tasks = ("bbox", "segm", "boundary") if boundary else ("bbox", "segm")
        self._max_dets_per_image = [1, 10, max_dets_per_image]
        self._metadata = metadata = MetadataCatalog.get(dataset_name)
        if file := metadata.get("json_file"):
            self._truth = truth_of_file(file)
        else:
            self._truth = truth_of_records(DatasetCatalog.get(dataset_name), metadata)
        self.evaluations: dict[str, Any] = {}
        self._dense_ids: Tensor | None = None  # contiguous id -> index among the things, -1 for stuff
        things = metadata.get("thing_dataset_id_to_contiguous_id")
        if things is None:  # then Detectron2 takes the model's class ids for the file's
            return
        categories = self._truth.coco.loadCats(sorted(self._truth.coco.getCatIds()))
        unknown = sorted(set(things) - {category["id"] for category in categories})
        if unknown:
            raise ValueError(
                f"Data set {dataset_name}: category ids {unknown} of its metadata "
                f"thing_dataset_id_to_contiguous_id are not among the categories of {self._truth.source}."
            )
        self._dense_ids = _dense_ids(things)
        self._metadata = Metadata(
            name=dataset_name,
            # In the file's order, which is that of COCO's results by category.
            thing_classes=[category["name"] for category in categories],
            thing_dataset_id_to_contiguous_id={id_: int(self._dense_ids[things[id_]]) for id_ in things},
        )

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Take each output's ``instances``: ``pred_boxes``, ``scores``, ``pred_classes`` and, if any, ``pred_masks``.

        Raises:
            ValueError: a score or a box is not finite, the ground truth does not list the image, or masks have another
                size than it states, so that no IoU could be trusted.
        """
        for one, output in zip(inputs, outputs, strict=True):
            if "instances" not in output:
                continue
            instances = self._things_only(output["instances"])
            self._require_comparable(one["image_id"], instances)
            results = _coco_results(instances, one["image_id"])
            self._predictions.append({"image_id": one["image_id"], "instances": results})
            if self.on_image and self._truth.has_annotations and instances.has("pred_masks"):
                self.on_image(self._compared(one, instances.image_size, results))

    def counts(self) -> dict[str, Any]:
        """Return what was predicted since ``reset``, for JSON."""
        return {"predictions": self._predictions}

    def add_counts(self, counts: Mapping[str, Any]) -> None:
        """Add what :meth:`counts` gave."""
        self._predictions += counts["predictions"]

    def _require_comparable(self, image_id: Any, instances: Instances) -> None:
        truth = self._truth
        where = f"{truth.source}, image {truth.image_name(image_id)}"
        if truth.has_annotations and image_id not in truth.numbers:
            raise ValueError(f"{where}: it is predicted, but the ground truth has no image of the id {image_id!r}.")
        if len(instances) == 0:
            return
        numbers = {"score": instances.scores, "box": instances.pred_boxes.tensor}
        for name, values in numbers.items():
            if not bool(values.isfinite().all()):
                raise ValueError(f"{where}: a predicted {name} is not a finite number. Has the training diverged?")
        boxes = instances.pred_boxes.tensor
        if bool((boxes[:, 2:] < boxes[:, :2]).any()):
            raise ValueError(f"{where}: a predicted box ends before it begins. Boxes are x0, y0, x1, y1.")
        image = truth.coco.imgs.get(truth.numbers.get(image_id))
        if (
            instances.has("pred_masks")
            and image
            and (size := (image["height"], image["width"])) != tuple(instances.pred_masks.shape[1:])
        ):
            raise ValueError(
                f"{where}: the predicted masks' (height, width) is {tuple(instances.pred_masks.shape[1:])}, that of "
                f"the file's image {size}. Correct the annotation file or the image."
            )

    def _compared(self, one: Mapping[str, Any], size: tuple[int, int], results: list[dict[str, Any]]) -> InstanceImage:
        coco = self._truth.coco
        truths = coco.imgToAnns.get(self._truth.numbers[one["image_id"]], ())
        return InstanceImage(
            file_name=one["file_name"],
            size=size,
            annotations=[{**truth, "segmentation": coco.annToRLE(truth)} for truth in truths],
            results=[{**r, "category_id": self._file_ids.get(r["category_id"], r["category_id"])} for r in results],
        )

    def rehearse(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Score one mask over the whole of one image; see :mod:`mask2former.evaluation.rehearsal`.

        Raises:
            ValueError: the ground truth has no such image.
        """
        truth = self._truth
        with_objects = {annotation["image_id"] for annotation in truth.coco.anns.values()}
        chosen = (record for record in records if truth.numbers.get(record["image_id"]) in with_objects)
        record = next(chosen, records[0])
        size = size_of(record)
        found = Instances(size, pred_masks=torch.ones(1, *size, dtype=torch.bool), scores=torch.ones(1))
        found.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, size[1], size[0]]]))
        number = 0 if self._dense_ids is None else int((self._dense_ids >= 0).nonzero()[0])
        found.pred_classes = torch.tensor([number])
        self.process([record], [{"instances": found}])
        folder, self._output_dir = self._output_dir, None
        self._results = {}
        try:
            self._eval_predictions(self._predictions, [record["image_id"]])
        finally:
            self._output_dir = folder

    @property
    def _file_ids(self) -> dict[int, int]:
        """The file's category of each class among the things; empty if the model's class ids are the file's own."""
        return {dense: id_ for id_, dense in (self._metadata.get("thing_dataset_id_to_contiguous_id") or {}).items()}

    def _things_only(self, instances: Instances) -> Instances:
        instances = instances.to(torch.device("cpu"))
        if self._dense_ids is None:
            return instances
        classes = instances.pred_classes
        dense = torch.full_like(classes, -1)
        known = classes < len(self._dense_ids)
        dense[known] = self._dense_ids[classes[known]]
        if bool((dense >= 0).all()):  # indexing would copy all masks
            things = Instances(instances.image_size, **instances.get_fields())
            things.pred_classes = dense
            return things
        things = instances[dense >= 0]
        things.pred_classes = dense[dense >= 0]
        return things

    def evaluate(self, img_ids: Sequence[int] | None = None) -> dict[str, dict[str, float]]:
        """Gather the predictions of all processes, write them as ``instances_predictions.pth``, and score them.

        Returns:
            {kind: scores in percent}; empty without predictions, and on other processes than the main one.
        """
        comm.synchronize()
        predictions = list(itertools.chain(*comm.gather(self._predictions)))
        if not comm.is_main_process():
            return {}
        if not predictions:
            logger.warning("There are no predictions: average precision is not scored.")
            return {}
        if self._output_dir:
            PathManager.mkdirs(self._output_dir)
            with PathManager.open(str(Path(self._output_dir, "instances_predictions.pth")), "wb") as file:
                save_plain(predictions, file)
        self._results = {}
        self._eval_predictions(predictions, img_ids)
        return copy.deepcopy(self._results)

    def _eval_predictions(self, predictions: Sequence[Mapping[str, Any]], img_ids: Sequence[int] | None = None) -> None:
        """Fill ``self._results``: {kind: {"AP", "AP50", "AP75", "APs", "APm", "APl", "AP-<category>"}}, in percent."""
        ids = self._file_ids
        results = [result for prediction in predictions for result in prediction["instances"]]
        if ids:
            for result in results:
                result["category_id"] = ids[result["category_id"]]
        if self._output_dir:
            # json.dump writes piece by piece, which takes five times as long.
            write_text(Path(self._output_dir, "coco_instances_results.json"), json.dumps(results))
        if not self._truth.has_annotations:
            logger.info("%s has no annotations: nothing is scored.", self._truth.source)
            return
        score = AveragePrecision(self._truth.coco, self._truth.source)
        numbers = self._truth.numbers
        results = [{**result, "image_id": numbers[result["image_id"]]} for result in results]
        img_ids = None if img_ids is None else [numbers[image_id] for image_id in img_ids]
        for kind in self._tasks:
            logger.info("Average precision, %s:", KINDS[kind])
            evaluation = score(results, kind, self._max_dets_per_image, img_ids) if results else None
            self.evaluations[kind] = evaluation
            self._results[kind] = self._derive_coco_results(
                evaluation,
                "segm" if kind == "boundary" else kind,  # its scores have the names of those of masks
                class_names=self._metadata.get("thing_classes"),
            )


def _coco_results(instances: Instances, image_id: Any) -> list[dict[str, Any]]:
    """Convert instances to COCO's format: ``bbox`` (x, y, width, height) in pixels, ``segmentation`` as run lengths."""
    if len(instances) == 0:
        return []
    boxes = BoxMode.convert(instances.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).tolist()
    rows = zip(instances.pred_classes.tolist(), boxes, instances.scores.tolist(), strict=True)
    results = [
        {"image_id": image_id, "category_id": category, "bbox": box, "score": score} for category, box, score in rows
    ]
    if instances.has("pred_masks"):
        encoded = encode_masks(instances.pred_masks.bool().numpy(), instances.pred_boxes.tensor.numpy())
        for result, run_lengths in zip(results, encoded, strict=True):
            result["segmentation"] = run_lengths
    return results


class InstanceSegEvaluator(InstanceEvaluator):
    """:class:`InstanceEvaluator` with the arguments of the published evaluator, which are those of ``COCOEvaluator``.

    Args:
        dataset_name, output_dir: see :class:`InstanceEvaluator`.
        max_dets_per_image: see :class:`InstanceEvaluator`; None: COCO's 100.
        tasks, distributed, use_fast_impl, kpt_oks_sigmas: accepted but not used: boxes and masks are scored, results
            of all processes are gathered, and the implementation is the fastest one that is installed.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Any = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
        use_fast_impl: bool = True,
        kpt_oks_sigmas: Sequence[float] = (),
    ) -> None:
        super().__init__(dataset_name, output_dir, 100 if max_dets_per_image is None else max_dets_per_image)


def _dense_ids(things: Mapping[int, int]) -> Tensor:
    """Return the place of each contiguous id among the things, int64 [largest id + 1]; -1 for ids that are no thing."""
    contiguous = sorted(things.values())
    table = torch.full((contiguous[-1] + 1,), -1, dtype=torch.int64)
    table[contiguous] = torch.arange(len(contiguous))
    return table
