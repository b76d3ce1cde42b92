"""The evaluator of sets of videos."""

from __future__ import annotations

import copy
import itertools
import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from mask2former.data.rle.encode import encode_masks
from mask2former.evaluation.video.score import score_tracks
from mask2former.evaluation.video.switches import count_switches
from mask2former.evaluation.video.truth import ScoredTrack, VideoTruth, read_truth
from mask2former.files import write_text

logger = logging.getLogger(__name__)


class YTVISEvaluator(DatasetEvaluator):
    """Average precision of tracks by the rules of YouTube-VIS, and ``results.json`` in the form that its server takes.

    Only run lengths are kept and gathered from other processes, no images.

    Args:
        dataset_name: its metadata has ``json_file`` and ``thing_dataset_id_to_contiguous_id``.
        tasks, use_fast_impl: accepted, as in the published class, but not used: masks are scored, in one way.
        distributed: gather the results of all processes; False: score those of this one.
        output_dir: where results.json is written; None: nowhere.

    Raises:
        ValueError: the truth has a fault, which the message names with file and id; or the metadata has other classes.

    Attributes:
        compared: after :meth:`evaluate`, on the main process, the truth and the tracks found in each video, for
            reports; None where there is nothing to compare.
    """

    on_image: Any = None  # it hands over all videos at the end, see ``compared``
    compared: tuple[VideoTruth, Mapping[Any, Sequence[ScoredTrack]]] | None = None

    def __init__(
        self,
        dataset_name: str,
        tasks: Any = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        use_fast_impl: bool = True,
    ) -> None:
        self._distributed, self._output_dir = distributed, output_dir
        metadata = MetadataCatalog.get(dataset_name)
        self._truth = read_truth(metadata.json_file, metadata.get("image_root") or "")
        self._category_ids = {place: id_ for id_, place in metadata.thing_dataset_id_to_contiguous_id.items()}
        if unknown := sorted(set(self._category_ids.values()) - set(self._truth.categories)):
            raise ValueError(
                f"Data set {dataset_name}: category ids {unknown} of its metadata thing_dataset_id_to_contiguous_id "
                f"are not among the categories of {self._truth.file}."
            )
        self.reset()

    def reset(self) -> None:
        self._results: list[dict[str, Any]] = []
        self.compared = None

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Any) -> None:
        """Take the tracks of each clip: :func:`~mask2former.modeling.postprocess.tracks.track_results`.

        Args:
            inputs: with ``video_id``.
            outputs: one for each input; or, as the published model gives it, that of the only one.

        Raises:
            ValueError: a score is not finite, the truth does not list the video, or masks have another size.
        """
        outputs = [outputs] if isinstance(outputs, Mapping) else outputs
        for one, output in zip(inputs, outputs, strict=True):
            self._require_comparable(one, output)
            rows = zip(output["pred_scores"], output["pred_labels"], output["pred_masks"], strict=True)
            self._results += [
                {
                    "video_id": one["video_id"],
                    "score": float(score),
                    "category_id": self._category_ids[int(label)],
                    "segmentations": encode_masks(np.asarray(masks, dtype=bool)),
                }
                for score, label, masks in rows
            ]

    def _require_comparable(self, one: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        truth, video = self._truth, one["video_id"]
        where = f"{truth.file}, video {video}"
        if video not in truth.lengths:
            raise ValueError(f"{where}: it is predicted, but the ground truth has no video of this id.")
        if not np.isfinite(np.asarray(output["pred_scores"], float)).all():
            raise ValueError(f"{where}: a predicted score is not a finite number. Has the training diverged?")
        if unknown := {int(label) for label in output["pred_labels"]} - set(self._category_ids):
            raise ValueError(
                f"{where}: found the predicted classes {sorted(unknown)}, but the data set has "
                f"{len(self._category_ids)}. Set MODEL.SEM_SEG_HEAD.NUM_CLASSES to what it has."
            )
        wanted = (truth.lengths[video], *truth.sizes[video])
        for masks in output["pred_masks"]:
            if tuple(masks.shape) != wanted:
                raise ValueError(
                    f"{where}: the (frames, height, width) of predicted masks are {tuple(masks.shape)}, those of the "
                    f"file's video {wanted}. Correct the annotation file or the frames."
                )

    def counts(self) -> dict[str, Any]:
        """Return what was predicted since ``reset``, for JSON."""
        return {"predictions": self._results}

    def add_counts(self, counts: Mapping[str, Any]) -> None:
        """Add what :meth:`counts` gave."""
        self._results += counts["predictions"]

    def evaluate(self) -> dict[str, Any]:
        """Write results.json and return {"segm": scores}, on the main process; {} where the truth is not public."""
        results = self._results
        if self._distributed:
            comm.synchronize()
            results = list(itertools.chain(*comm.gather(results)))
            if not comm.is_main_process():
                return {}
        if self._output_dir:
            Path(self._output_dir).mkdir(parents=True, exist_ok=True)
            write_text(Path(self._output_dir, "results.json"), json.dumps(results))
        if not self._truth.has_annotations:
            logger.warning(
                "%s has no annotations: results.json is for its server, nothing is scored.", self._truth.file
            )
            return {}
        tracks = _by_video(results)
        self.compared = self._truth, tracks
        return copy.deepcopy({"segm": self._scores(tracks)})

    def _scores(
        self, tracks: Mapping[Any, Sequence[ScoredTrack]], videos: Sequence[Any] | None = None
    ) -> dict[str, float]:
        """Return :func:`score_tracks`, and ``ID switches``, their number in all videos."""
        scores = score_tracks(self._truth, tracks, videos)
        by_video = self._truth.tracks
        switches = sum(count_switches(by_video.get(video, ()), tracks[video]) for video in list(tracks))
        return scores | {"ID switches": float(switches)}

    def rehearse(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Score one mask over the whole of one video; see :mod:`mask2former.evaluation.rehearsal`.

        Raises:
            ValueError: the ground truth has no such video.
        """
        record = next((one for one in records if one["video_id"] in self._truth.tracks), records[0])
        masks = np.ones((record["length"], record["height"], record["width"]), dtype=bool)
        label = min(self._category_ids)
        self.process([record], [{"pred_scores": [1.0], "pred_labels": [label], "pred_masks": [masks]}])
        if self._truth.has_annotations:
            self._scores(_by_video(self._results), [record["video_id"]])


def _by_video(results: Sequence[Mapping[str, Any]]) -> dict[Any, list[ScoredTrack]]:
    tracks: dict[Any, list[ScoredTrack]] = defaultdict(list)
    for one in results:
        tracks[one["video_id"]].append(ScoredTrack(one["category_id"], list(one["segmentations"]), one["score"]))
    return dict(tracks)
