"""Property: files that pass the check are read by the mapper and scored by the evaluators, whatever the damage."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BitMasks, Instances
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torture import examples

from mask2former.custom import CustomDataset, DataError, build_dataset, detect_format
from mask2former.data.coco.categories import read_categories
from mask2former.data.coco.faults import FirstFault
from mask2former.data.datasets.readers import read_coco_instances, read_coco_panoptic
from mask2former.data.images.read import panoptic_png, read_image
from mask2former.data.mapper.annotations import instance_objects, panoptic_objects, semantic_objects
from mask2former.evaluation.instance import InstanceEvaluator
from mask2former.evaluation.panoptic import PanopticEvaluator
from mask2former.evaluation.semantic import SemanticEvaluator

HEIGHT, WIDTH = 16, 20
SQUARE = [2, 2, 9, 2, 9, 9, 2, 9]
RUNS = {"size": [HEIGHT, WIDTH], "counts": [100, 30, 190]}
IMAGES = [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in (1, 2)]
INSTANCES: dict[str, Any] = {
    "images": IMAGES,
    "categories": [{"id": 4, "name": "a", "supercategory": "all"}, {"id": 9, "name": "b"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 9, "iscrowd": 0, "segmentation": [SQUARE, [11, 3, 15, 3, 15, 12]]},
        {"id": 2, "image_id": 1, "category_id": 4, "segmentation": RUNS, "area": 30, "bbox": [6, 0, 2, 16]},
        {"id": 3, "image_id": 2, "category_id": 4, "iscrowd": 1, "segmentation": RUNS},
        {"id": 4, "image_id": 2, "category_id": 4, "iscrowd": 0, "segmentation": [[1, 10, 6, 10, 6, 14, 1, 14]]},
    ],
}
PANOPTIC: dict[str, Any] = {
    "images": IMAGES,
    "categories": [{"id": 4, "name": "a", "isthing": 1}, {"id": 9, "name": "b", "isthing": 0}],
    "annotations": [
        {
            "image_id": number,
            "file_name": f"ids{number}.png",
            "segments_info": [
                {"id": 300, "category_id": 9, "iscrowd": 0, "area": 208},
                {"id": 70000, "category_id": 4, "iscrowd": 0, "area": 64, "bbox": [2, 2, 8, 8]},
                {"id": 5, "category_id": 4, "iscrowd": number - 1, "area": 48},
            ],
        }
        for number in (1, 2)
    ],
}
VALUES = [
    None, True, False, 0, 1, -1, 2, 7, 1.0, 4.0, 9.0, 2.5, 16.0, 2**24, 2**64, 1e300, float("nan"), float("inf"),
    "", "0", "1", "4", "false", "abc", "../1.png", "1.png", "half.png", "half.jpg", "cut.webp", "deep.png", "gone.png",
    "ids1.png", "empty.png", "deep_ids.png", "small.png", "grey.png",
    [], [[]], {}, [1, 2], [[1, 1, 2, 2]], [SQUARE, [1, 1]], SQUARE, [[99, 1, 500, 1, 500, 9]], [[-9, -9, 30, 5, 5, 40]],
    [[1e12, 5, 5, 1e12, -1e12, 5]], [{"x": 1, "y": 2}], [["1"] * 6], [[None] * 6], [RUNS], [RUNS, RUNS],
    {"size": [HEIGHT, WIDTH], "counts": "abc"}, {"size": [WIDTH, HEIGHT], "counts": [320]}, {"counts": [320]},
    {"size": [16.0, 20.0], "counts": [20.0, 300.0]}, {"size": [HEIGHT, WIDTH], "counts": [-5, 325]},
    {"size": [HEIGHT, WIDTH], "counts": ["320"]}, {"size": [HEIGHT, WIDTH], "counts": [2**63, 2**63, 320]},
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and panoptic pngs, sound ones and others."""
    root = tmp_path_factory.mktemp("one_rule_set")
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    ids = np.full((HEIGHT, WIDTH), 300)
    ids[2:10, 2:10], ids[12:, 4:16] = 70000, 5
    for number in (1, 2):
        Image.fromarray(noise).save(root / f"{number}.png")
        Image.fromarray(panoptic_png(ids)).save(root / f"ids{number}.png")
    for kind in ("half.png", "half.jpg", "cut.webp"):
        Image.fromarray(noise).save(root / kind)
        whole = (root / kind).read_bytes()
        (root / kind).write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.full((HEIGHT, WIDTH), 9000, np.uint16)).save(root / "deep.png")
    Image.fromarray(np.full((HEIGHT, WIDTH), 9000, np.uint16)).save(root / "deep_ids.png")
    Image.fromarray(panoptic_png(0 * ids)).save(root / "empty.png")
    Image.fromarray(panoptic_png(ids[:9])).save(root / "small.png")
    Image.fromarray((ids % 256).astype(np.uint8)).save(root / "grey.png")
    return root


def damaged(content: Any, data: st.DataObject) -> Any:
    """A copy in which one value, anywhere, is another, or is gone, or is there twice."""
    content = copy.deepcopy(content)
    parent, key = content, data.draw(st.sampled_from(sorted(content)))
    while isinstance(parent[key], dict | list) and parent[key] and data.draw(st.integers(0, 5)):
        parent = parent[key]
        keys = sorted(parent) if isinstance(parent, dict) else range(len(parent))
        key = data.draw(st.sampled_from(list(keys)))
    what = data.draw(st.sampled_from(["another", "another", "another", "gone", "twice"]))
    if what == "another":
        parent[key] = copy.deepcopy(data.draw(st.sampled_from(VALUES)))
    elif what == "gone":
        del parent[key]
    elif isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))
    return content


def passed(content: Any, folder: Path, paths: list[str]) -> CustomDataset | None:
    """The data set, registered; None where the check finds what would stop a training, and says where."""
    file = folder / "a.json"
    file.write_text(json.dumps(content))
    try:
        source = detect_format([str(file), *paths])
        data = build_dataset(source, source, folder / "data", f"rules{next(NUMBERS)}")
    except DataError as error:
        assert str(folder) in str(error) or "no annotated object" in str(error) or "no image" in str(error)
        return None
    data.register()
    CURRENT.append(data.val.name)
    return data


NUMBERS = itertools.count()
CURRENT: list[str] = []  # names of the data sets that passed


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    for name in [name for name in DatasetCatalog.list() if name.startswith("custom_rules")]:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def things_of(content: Any) -> dict[int, int]:
    """Return the category ids of a file that passed, as they are meant, and their places."""
    categories = read_categories(content, "a.json", False, FirstFault())
    return {category["id"]: place for place, category in enumerate(categories)}


def of_file(folder: Path, kind: Any) -> Any:
    """Return an evaluator of the file itself, as a registered set has it."""
    name = f"custom_rules{next(NUMBERS)}_file"
    facts = {key: value for key, value in MetadataCatalog.get(CURRENT[-1]).as_dict().items() if "_id" in key}
    DatasetCatalog.register(name, list)
    MetadataCatalog.get(name).set(
        json_file=str(folder / "a.json"), panoptic_json=str(folder / "a.json"), panoptic_root=str(folder), **facts
    )
    evaluator = kind(name)
    evaluator.reset()
    return evaluator


def masks_of(record: dict[str, Any], read: Any, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    image = read_image(record["file_name"], "RGB")
    assert image.shape[:2] == (record["height"], record["width"])
    return read(record, image.shape[:2], num_classes).to_masks()


@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_instances(folder: Path, data: st.DataObject) -> None:
    content = INSTANCES
    for _ in range(data.draw(st.integers(0, 2))):
        content = damaged(content, data)
    found = passed(content, folder, [str(folder)])
    if found is None:
        assert content is not INSTANCES
        return
    evaluators, read = [InstanceEvaluator(found.val.name), of_file(folder, InstanceEvaluator)], 0
    evaluators[0].reset()
    originals = read_coco_instances(str(folder / "a.json"), str(folder), things_of(content))
    for record, original in zip(DatasetCatalog.get(found.val.name), originals, strict=True):
        classes, masks = masks_of(record, instance_objects, len(found.categories))
        read += len(classes)
        instances = Instances(tuple(masks.shape[1:]), pred_masks=masks, pred_classes=classes)
        instances.pred_boxes = BitMasks(masks).get_bounding_boxes()
        instances.scores = torch.ones(len(classes))
        for evaluator, one in zip(evaluators, (record, original), strict=True):
            evaluator.process([one], [{"instances": instances}])
    assert read == sum(map(len, found.report.objects.values())) > 0
    for evaluator in evaluators:  # of the files that custom data are converted to, and of the file itself
        scores = evaluator.evaluate()
        assert scores["segm"]["AP"] == pytest.approx(100) and scores["bbox"]["AP"] == pytest.approx(100)


@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_panoptic(folder: Path, data: st.DataObject) -> None:
    content = PANOPTIC
    for _ in range(data.draw(st.integers(0, 2))):
        content = damaged(content, data)
    found = passed(content, folder, [str(folder), str(folder)])
    if found is None:
        assert content is not PANOPTIC
        return
    evaluators, read = [PanopticEvaluator(found.val.name), of_file(folder, PanopticEvaluator)], 0
    evaluators[0].reset()
    things = set(MetadataCatalog.get(found.val.name).thing_dataset_id_to_contiguous_id.values())
    known = MetadataCatalog.get(found.val.name)
    originals = read_coco_panoptic(
        str(folder / "a.json"),
        str(folder),
        str(folder),
        known.thing_dataset_id_to_contiguous_id,
        known.stuff_dataset_id_to_contiguous_id,
    )
    for record, original in zip(DatasetCatalog.get(found.val.name), originals, strict=True):
        classes, masks = masks_of(record, panoptic_objects, len(found.categories))
        read += len(classes)
        numbers = torch.arange(1, len(classes) + 1)
        ids = (masks * numbers[:, None, None]).sum(0).int() if len(masks) else torch.zeros(masks.shape[1:]).int()
        segments = [
            {"id": number, "category_id": category, "isthing": category in things}
            for number, category in zip(numbers.tolist(), classes.tolist(), strict=True)
        ]
        for evaluator, one in zip(evaluators, (record, original), strict=True):
            evaluator.process([one], [{"panoptic_seg": (ids, segments)}])
    assert read == sum(map(len, found.report.objects.values())) > 0
    for evaluator in evaluators:
        assert evaluator.evaluate()["panoptic_seg"]["PQ"] == pytest.approx(100)


LABELS = np.repeat([[0, 1, 2, 255]], HEIGHT, 0).repeat(WIDTH // 4, 1).astype(np.uint8)
FILES: dict[str, Any] = {
    "sound": LABELS,
    "16 bits": LABELS.astype(np.uint16),
    "one class": 0 * LABELS + 1,
    "ignored": 0 * LABELS + 255,
    "out of range": np.where(LABELS == 2, 9, LABELS).astype(np.uint8),
    "far out of range": np.where(LABELS == 2, 9000, LABELS).astype(np.uint16),
    "turned": LABELS.T.copy(),
    "cut off": LABELS[:7],
    "colours": np.repeat(LABELS[..., None], 3, -1),
    "two channels": np.repeat(LABELS[..., None], 4, -1),
    "one bit": LABELS == 1,
}


WHOLE_SETS = (
    "There is no annotated object",
    "No label file holds a class",
    "The only labels are",
)  # faults of no one file


@settings(max_examples=examples(60), deadline=None)
@given(kinds=st.lists(st.sampled_from(sorted(FILES)), min_size=2, max_size=2), half=st.sampled_from([0, 0, 0, 1]))
def test_semantic(tmp_path_factory: pytest.TempPathFactory, kinds: list[str], half: int) -> None:
    root = tmp_path_factory.mktemp("semantic")
    for sub in ("images", "labels"):
        (root / sub).mkdir()
    for number, kind in enumerate(kinds):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 60 * number, np.uint8)).save(root / f"images/{number}.png")
        Image.fromarray(FILES[kind]).save(root / f"labels/{number}.png")
    if half:
        whole = (root / "labels/1.png").read_bytes()
        (root / "labels/1.png").write_bytes(whole[: len(whole) // 2])
    try:
        source = detect_format([str(root / "images"), str(root / "labels")])
        found = build_dataset(source, source, root / "data", f"rules{next(NUMBERS)}")
    except DataError as error:
        assert str(root) in str(error) or str(error).startswith(WHOLE_SETS)
        assert half or kinds != ["sound", "sound"]
        return
    found.register()
    evaluator, read = SemanticEvaluator(found.val.name), 0
    evaluator.reset()
    for record in DatasetCatalog.get(found.val.name):
        size = read_image(record["file_name"], "RGB").shape[:2]
        classes, masks = semantic_objects(record, size, len(found.categories), found.ignore_label).to_masks()
        read += len(classes)
        labels = (masks * classes[:, None, None]).sum(0) if len(masks) else torch.zeros(size, dtype=torch.int64)
        evaluator.process([record], [{"sem_seg_labels": labels}])
    assert read == sum(map(len, found.report.objects.values())) > 0
    assert evaluator.evaluate()["sem_seg"]["mIoU"] == pytest.approx(100)
