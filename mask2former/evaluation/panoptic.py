"""Panoptic quality: by hotcoco, or by panopticapi."""

import contextlib
import io
import itertools
import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.evaluation import COCOPanopticEvaluator
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from tabulate import tabulate

from mask2former.evaluation.fast import hotcoco

logger = logging.getLogger(__name__)

GROUPS = {"All": "", "Things": "_th", "Stuff": "_st"}


class PanopticEvaluator(COCOPanopticEvaluator):
    """Detectron2's collection of predictions; scored by hotcoco where it is installed, else by panopticapi."""

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """{"panoptic_seg": {"PQ", "SQ", "RQ", and each with "_th" and "_st"}}, in percent; None on other processes."""
        comm.synchronize()
        gathered = comm.gather(self._predictions)
        if not comm.is_main_process():
            return None
        predictions = [dict(prediction) for prediction in itertools.chain(*gathered)]
        truth_file = PathManager.get_local_path(self._metadata.panoptic_json)
        with open(truth_file) as file:
            truth = json.load(file)
        with tempfile.TemporaryDirectory(prefix="panoptic_eval") as folder:
            for prediction in predictions:
                Path(folder, prediction["file_name"]).write_bytes(prediction.pop("png_string"))
            results = {**truth, "annotations": predictions}
            results_file = str(Path(self._output_dir or folder, "predictions.json"))
            with PathManager.open(results_file, "w") as out:
                json.dump(results, out)
            scores = panoptic_quality(
                truth,
                results,
                truth_folder=PathManager.get_local_path(self._metadata.panoptic_root),
                results_folder=folder,
            )
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


def panoptic_quality(
    truth: Mapping[str, Any], results: Mapping[str, Any], *, truth_folder: str, results_folder: str
) -> Mapping[str, Any]:
    """PQ, SQ and RQ (Kirillov et al., arXiv 1801.00868), in [0, 1].

    Args:
        truth, results: COCO panoptic files, read.
        truth_folder, results_folder: of their pictures of segment ids.

    Returns:
        {"All", "Things" and "Stuff": {"pq", "sq", "rq", "n" (categories found)}}; more, which depends on the program.

    Raises:
        ValueError: a picture of ``truth`` has no results.
    """
    found = {annotation["image_id"] for annotation in results["annotations"]}
    missing = [a["image_id"] for a in truth["annotations"] if a["image_id"] not in found]
    if missing:
        raise ValueError(
            f"{len(missing)} pictures have no panoptic prediction, the first with image_id {missing[0]!r}."
        )
    fast = hotcoco()
    if fast is None:
        return _by_panopticapi(truth, results, truth_folder, results_folder)
    numbers = {annotation["image_id"]: number for number, annotation in enumerate(truth["annotations"])}
    evaluation = fast.panoptic.PanopticEval(
        _numbered(truth, numbers),
        _numbered(results, numbers),
        gt_folder=truth_folder,
        pred_folder=results_folder,
    )
    evaluation.evaluate()
    return evaluation.results()


def _numbered(file: Mapping[str, Any], numbers: Mapping[Any, int]) -> dict[str, Any]:
    """With whole numbers for the ids of pictures: hotcoco knows no others, but ADE20K and Cityscapes have names."""
    return {
        "images": [{**image, "id": numbers[image["id"]]} for image in file["images"] if image["id"] in numbers],
        "annotations": [
            {**annotation, "image_id": numbers[annotation["image_id"]]}
            for annotation in file["annotations"]
            if annotation["image_id"] in numbers
        ],
        "categories": file["categories"],
    }


def _by_panopticapi(
    truth: Mapping[str, Any], results: Mapping[str, Any], truth_folder: str, results_folder: str
) -> Mapping[str, Any]:
    from panopticapi.evaluation import pq_compute

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        files = []
        for name, content in (("truth", truth), ("results", results)):
            files.append(str(Path(folder, f"{name}.json")))
            Path(files[-1]).write_text(json.dumps(content))
        return pq_compute(*files, gt_folder=truth_folder, pred_folder=results_folder)
