"""`benchmark.py eval`: time evaluators on drawn predictions, ours beside Detectron2's."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, COCOPanopticEvaluator, DatasetEvaluator, SemSegEvaluator
from detectron2.structures import Boxes, Instances
from PIL import Image
from pycocotools import mask as coco_mask

from mask2former.evaluation import average_precision
from mask2former.evaluation.instance import InstanceEvaluator
from mask2former.evaluation.panoptic import PanopticEvaluator
from mask2former.evaluation.semantic import SemanticEvaluator
from mask2former.measure.timing import Statistics
from mask2former.modeling.postprocess import ResizedMasks, SemanticLabels, SemanticScores, stream_masks
from mask2former.structures import FactoredMasks

CLASSES, THINGS = 40, 20
QUERIES, CHANNELS = 100, 256
NAME = "evaluation_benchmark"
Pair = tuple[dict[str, Any], dict[str, Any]]  # an image and a model's output for it


@dataclass(frozen=True)
class Row:
    """One evaluator's seconds per image.

    Attributes:
        process, evaluate: by the clock.
        cpu: of both together, the processes that the evaluator starts included.
        model: seconds of post-processing, which makes what is scored from the network's output; only of semantic
            results, whose two forms differ in it.
    """

    task: str
    evaluator: str
    process: float
    evaluate: float
    cpu: float
    score: float
    model: float | None = None

    @property
    def scoring(self) -> float:
        return self.process + self.evaluate


def measure(
    folder: Path, images: int, different: int, size: tuple[int, int], objects: int, rounds: int
) -> Iterator[Row]:
    """Run the evaluators of each task in turns, and keep the least of each time.

    Args:
        images: number of images scored.
        different: number of them drawn; the others repeat their files and predictions.
        objects: segments in an image; five times as many instances are predicted.
        rounds: number of runs of each evaluator.
    """
    pairs = draw(folder, images, different, size, objects)
    made = {"scores": postprocessing(SemanticScores, size), "labels": postprocessing(SemanticLabels, size)}
    try:
        for task, builders in contestants(folder).items():
            turns = [[run(task, name, build, pairs) for name, build in builders.items()] for _ in range(rounds)]
            for name, rows in zip(builders, zip(*turns, strict=True), strict=True):
                least = {part: min(getattr(row, part) for row in rows) for part in ("process", "evaluate", "cpu")}
                row = replace(rows[0], **least)
                yield replace(row, model=made[_form(name)]) if task == "semantic" else row
    finally:
        DatasetCatalog.pop(NAME)
        MetadataCatalog.pop(NAME)


def contestants(folder: Path) -> dict[str, dict[str, Callable[[], DatasetEvaluator]]]:
    out = str(folder / "out")
    return {
        "panoptic": {
            "ours": lambda: PanopticEvaluator(NAME, out),
            "Detectron2": lambda: COCOPanopticEvaluator(NAME, out),
        },
        "instance": {
            "ours": lambda: InstanceEvaluator(NAME, out),
            "ours without hotcoco": lambda: InstanceEvaluator(NAME, out),
            "Detectron2": lambda: COCOEvaluator(NAME, output_dir=out),
        },
        "semantic": {
            "ours, of labels": lambda: SemanticEvaluator(NAME, output_dir=out),
            "ours, of scores": lambda: SemanticEvaluator(NAME, output_dir=out),
            "Detectron2": lambda: SemSegEvaluator(NAME, output_dir=out),
        },
    }


def _form(evaluator: str) -> str:
    """Return the form of the semantic results that an evaluator gets."""
    return "labels" if evaluator.endswith("labels") else "scores"


def postprocessing(kind: type[SemanticScores], size: tuple[int, int], repeats: int = 5) -> float:
    """Return the median seconds of post-processing for an image's semantic result.

    There are ``QUERIES`` queries, with masks at a quarter of the image's size.
    """
    torch.manual_seed(0)
    small = (-(-size[0] // 4), -(-size[1] // 4))
    logits = torch.randn(QUERIES, CLASSES + 1)
    factors = FactoredMasks(torch.randn(1, QUERIES, CHANNELS), torch.randn(1, CHANNELS, 1, *small))
    masks = ResizedMasks(factors, 0, size, size, None)
    times = []
    for _ in range(repeats + 1):  # the first one warms up
        started = time.perf_counter()
        result = kind(logits, size)
        stream_masks(masks, [result], size)
        result.result()
        times.append(time.perf_counter() - started)
    return Statistics.of(times[1:]).median


def run(task: str, name: str, build: Callable[[], DatasetEvaluator], pairs: list[Pair]) -> Row:
    with _without_hotcoco(name.endswith("without hotcoco")):
        evaluator = build()
        evaluator.reset()
        spent = cpu = 0.0
        for one, output in pairs:
            # Detectron2's evaluators change their inputs.
            given = {
                **output,
                "panoptic_seg": (output["panoptic_seg"][0], [dict(s) for s in output["panoptic_seg"][1]]),
            }
            if task == "semantic" and _form(name) == "scores":  # labels would be read in their place
                del given["sem_seg_labels"]
                given["sem_seg"] = output["sem_seg_scores"]
            started, cpu_started = time.perf_counter(), time.process_time()
            evaluator.process([one], [given])
            spent += time.perf_counter() - started
            cpu += time.process_time() - cpu_started
        others = _cpu_of_children()
        started, cpu_started = time.perf_counter(), time.process_time()
        scores = evaluator.evaluate()
        evaluated = time.perf_counter() - started
        cpu += time.process_time() - cpu_started
        cpu += _cpu_of_children() - others
    task_key, metric = {
        "panoptic": ("panoptic_seg", "PQ"),
        "instance": ("segm", "AP"),
        "semantic": ("sem_seg", "mIoU"),
    }[task]
    seconds = [one / len(pairs) for one in (spent, evaluated, cpu)]
    return Row(task, name, *seconds, float(scores[task_key][metric]))


def _cpu_of_children() -> float:
    """Return the CPU seconds of all processes that this one started; wait for those that still run.

    Their times are known only once they ended, and panopticapi leaves that to the garbage collector.
    """
    gc.collect()
    for child in multiprocessing.active_children():
        child.join(timeout=30)
    times = os.times()
    return times.children_user + times.children_system


@contextmanager
def _without_hotcoco(off: bool) -> Iterator[None]:
    with mock.patch.object(average_precision, "hotcoco", (lambda: None) if off else average_precision.hotcoco):
        yield


def draw(folder: Path, count: int, different: int, size: tuple[int, int], objects: int) -> list[Pair]:
    """Draw ground truth, register it as the data set ``NAME``, and return images with predictions near it."""
    drawn = [_draw_one(folder, number, size, objects) for number in range(different)]
    instances: list[dict[str, Any]] = []
    panoptic, images, records, pairs = [], [], [], []
    for number in range(count):
        file, segments, runs, output = drawn[number % different]
        image = {"id": number, "file_name": f"{number}.jpg", "height": size[0], "width": size[1]}
        images.append(image)
        panoptic.append({"image_id": number, "file_name": f"{file}_ids.png", "segments_info": segments})
        for segment, rle in zip(segments, runs, strict=True):
            if segment["category_id"] < THINGS:
                box = coco_mask.toBbox(rle).tolist()
                common = {"image_id": number, "id": len(instances) + 1, "bbox": box, "segmentation": rle}
                instances.append({**segment, **common})
        record = {"file_name": str(folder / f"{number}.jpg"), "image_id": number}
        records.append({**record, "sem_seg_file_name": str(folder / f"{file}.png")})
        pairs.append((record, output))
    categories = [{"id": id_, "name": str(id_), "isthing": int(id_ < THINGS)} for id_ in range(CLASSES)]
    facts = {"images": images, "categories": categories}
    (folder / "panoptic.json").write_text(json.dumps({**facts, "annotations": panoptic}))
    facts = {"images": images, "categories": categories[:THINGS]}
    (folder / "instances.json").write_text(json.dumps({**facts, "annotations": instances}))
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).set(
        panoptic_json=str(folder / "panoptic.json"),
        panoptic_root=str(folder),
        json_file=str(folder / "instances.json"),
        thing_dataset_id_to_contiguous_id={id_: id_ for id_ in range(THINGS)},
        stuff_dataset_id_to_contiguous_id={id_: id_ for id_ in range(CLASSES)},
        stuff_classes=[str(id_) for id_ in range(CLASSES)],
        ignore_label=255,
    )
    return pairs


def _draw_one(folder: Path, number: int, size: tuple[int, int], objects: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(number)
    height, width = size
    ids, labels = np.zeros(size, np.int32), np.full(size, 255, np.uint8)
    predicted, masks, boxes, classes = np.zeros(size, np.int32), [], [], []
    segments, predicted_segments, seen_stuff = [], [], set()
    for index in range(objects):
        category = int(rng.integers(0, CLASSES))
        if category >= THINGS and category in seen_stuff:
            continue
        seen_stuff.add(category)
        centre, axes = rng.uniform(0, (width, height)), rng.uniform(0.04, 0.25, 2) * width
        for shift in range(6):  # the truth, and predictions around it
            mask = np.zeros(size, np.uint8)
            place = (centre + shift * rng.normal(0, 2, 2)).astype(int).tolist()
            cv2.ellipse(mask, place, axes.astype(int).tolist(), 30.0 * index, 0, 360, 1, -1)
            if shift == 0:
                ids[mask > 0], labels[mask > 0] = 1000 * (index + 1), category
                segments.append({"id": 1000 * (index + 1), "category_id": category, "iscrowd": 0})
            elif category < THINGS:
                masks.append(mask > 0)
                x, y, w, h = cv2.boundingRect(mask)
                boxes.append([x, y, x + w, y + h])
                classes.append(category)
            if shift == 1:
                predicted[mask > 0] = index + 1
                predicted_segments.append({"id": index + 1, "category_id": category, "isthing": category < THINGS})
    segments = [{**s, "area": int((ids == s["id"]).sum())} for s in segments if (ids == s["id"]).any()]
    runs = [coco_mask.encode(np.asfortranarray(ids == s["id"])) for s in segments]
    runs = [{"size": rle["size"], "counts": rle["counts"].decode()} for rle in runs]
    Image.fromarray(np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)).save(
        folder / f"{number}_ids.png"
    )
    Image.fromarray(labels).save(folder / f"{number}.png")
    instances = Instances(size)
    instances.pred_masks = torch.from_numpy(np.stack(masks))
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
    instances.scores = torch.from_numpy(rng.random(len(masks)).astype(np.float32))
    instances.pred_classes = torch.tensor(classes)
    scores = torch.from_numpy(rng.random((CLASSES, *size), dtype=np.float32))
    coarse = torch.from_numpy(np.roll(np.where(labels == 255, 0, labels), 9, axis=1).astype(np.int64))
    scores.scatter_add_(0, coarse[None], torch.ones(1, *size))
    there = [s for s in predicted_segments if (predicted == s["id"]).any()]
    output = {
        "panoptic_seg": (torch.from_numpy(predicted), there),
        "instances": instances,
        "sem_seg_scores": scores,
        "sem_seg_labels": scores.argmax(dim=0).short(),
    }
    return number, segments, runs, output
