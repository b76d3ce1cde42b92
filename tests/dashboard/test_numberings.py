"""Reports on data sets that number and name their classes otherwise, or hold hundreds of objects in an image."""

import json
import logging

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image

from mask2former.config import load_config
from mask2former.dashboard.class_list import ClassList
from mask2former.dashboard.collector import Collector
from mask2former.engine.reporting_evaluator import with_report
from mask2former.evaluation.build import build_evaluator
from mask2former.evaluation.handover import PanopticImage
from mask2former.evaluation.overlaps import match, panoptic_overlaps

EVERYTHING = ["panoptic", "instance", "semantic"]
# things, stuff, thing_classes, stuff_classes -> {category id: name as it is shown}
NUMBERINGS = {
    "one numbering, all names (published)": (
        {3: 1, 8: 2}, {1: 0, 3: 1, 8: 2}, ["cup", "pen"], ["sky", "cup", "pen"], {1: "sky", 3: "cup", 8: "pen"},
    ),
    "Cityscapes: both lists have all": (
        {8: 1}, {1: 0}, ["sky", "cup"], ["sky", "cup"], {1: "sky", 8: "cup"},
    ),
    "stuff_classes of the stuff alone": (
        {1: 0}, {2: 1}, ["cup"], ["sky"], {1: "cup", 2: "sky"},
    ),
    "separated: both count from 0": (
        {1: 0, 2: 1}, {0: 0, 9: 1}, ["cup", "pen"], ["things", "sky"], {0: "things", 1: "cup", 2: "pen", 9: "sky"},
    ),
    "no names at all": ({4: 0}, {5: 1}, None, None, {4: "0", 5: "1"}),
}  # fmt: skip


@pytest.mark.parametrize("case", NUMBERINGS)
def test_every_class_has_a_place_of_its_own_and_its_name(case):
    things, stuff, thing_classes, stuff_classes, expected = NUMBERINGS[case]
    metadata = Metadata(thing_dataset_id_to_contiguous_id=things, stuff_dataset_id_to_contiguous_id=stuff)
    if thing_classes:
        metadata.set(thing_classes=thing_classes, stuff_classes=stuff_classes)
    classes = ClassList.of(metadata, EVERYTHING)
    ids = np.array(sorted(expected))
    places = classes.of_files(ids)
    assert len(set(places.tolist())) == len(ids)
    assert {int(id_): classes.names[place] for id_, place in zip(ids, places, strict=True)} == expected
    assert {int(ids[i]) for i, place in enumerate(places.tolist()) if place in classes.things} == set(things)
    labels = sorted(stuff.values())
    by_label = {label: id_ for id_, label in stuff.items()}
    assert classes.of_labels(np.array(labels)).tolist() == [classes.places[by_label[label]] for label in labels]


def test_a_category_that_the_metadata_lacks_is_named():
    classes = ClassList.of(Metadata(thing_dataset_id_to_contiguous_id={4: 0}, thing_classes=["cup"]), ["instance"])
    with pytest.raises(ValueError, match=r"categories \[6\] .* knows only \[4\]"):
        classes.of_files(np.array([4, 6]))


def test_a_panoptic_image_of_hundreds_of_segments(tmp_path):
    ids = np.arange(1, 401).reshape(20, 20).repeat(4, 0).repeat(4, 1)
    segments = [{"id": int(i), "category_id": 7 if i % 2 else 9, "iscrowd": 0} for i in range(1, 401)]
    metadata = Metadata(
        thing_dataset_id_to_contiguous_id={7: 0}, stuff_dataset_id_to_contiguous_id={9: 1}, stuff_classes=["a", "b"]
    )
    collector = Collector(metadata, ["panoptic"])
    overlaps = panoptic_overlaps(ids, segments, ids, segments)
    pair = (ids, segments)
    collector.add(PanopticImage("a.jpg", overlaps, match(overlaps), pair, pair))
    assert collector.findings.panoptic.matched.tolist() == [200, 200]
    (example,) = collector.findings.gallery.best()
    assert example.quality == 1.0 and len(example.found.regions()) == 400


@pytest.fixture
def plain(tmp_path):
    """A data set that ``DatasetCatalog.register`` alone knows, with 300 objects in an image of two."""
    name = "plain_numberings"

    def square(number):
        x, y = 3 * (number % 20), 3 * (number // 20)
        return [x, y, x + 2, y, x + 2, y + 2, x, y + 2]

    def annotation(number):
        x, y = square(number)[:2]
        box = {"bbox": [x, y, x + 2, y + 2], "bbox_mode": BoxMode.XYXY_ABS}
        return {**box, "category_id": number % 2, "segmentation": [square(number)], "iscrowd": 0}

    records = []
    for number in range(2):
        Image.fromarray(np.full((64, 64, 3), 90 * number, np.uint8)).save(tmp_path / f"{number}.png")
        facts = {"file_name": str(tmp_path / f"{number}.png"), "image_id": number, "height": 64, "width": 64}
        records.append({**facts, "annotations": [annotation(i) for i in range(300 if number else 1)]})
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(thing_classes=["odd", "even"], evaluator_type="coco")
    yield name, records
    DatasetCatalog.pop(name)
    MetadataCatalog.pop(name)


def test_a_plainly_registered_set_is_scored_and_reported(plain, tmp_path, caplog):
    name, records = plain
    tasks = [x for task in EVERYTHING for x in (f"MODEL.MASK_FORMER.TEST.{task.upper()}_ON", str(task == "instance"))]
    cfg = load_config(
        None, [*tasks, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path), "DATASETS.TEST", f"('{name}',)"]
    )
    with caplog.at_level(logging.DEBUG):
        evaluator = with_report(cfg, name, build_evaluator(cfg, name))
        evaluator.reset()
        for record in records:
            boxes = torch.tensor([a["bbox"] for a in record["annotations"]], dtype=torch.float32)
            found = Instances((64, 64), pred_boxes=Boxes(boxes), scores=torch.linspace(0.9, 0.6, len(boxes)))
            found.pred_masks = torch.zeros(len(boxes), 64, 64, dtype=torch.bool)
            for mask, (x0, y0, x1, y1) in zip(found.pred_masks, boxes.int().tolist(), strict=True):
                mask[y0:y1, x0:x1] = True
            found.pred_classes = torch.tensor([a["category_id"] for a in record["annotations"]])
            evaluator.process([record], [{"instances": found}])
        results = evaluator.evaluate()
    assert results["segm"]["AP"] > 30  # COCO's counts 100 of the 301, and by class
    assert json.loads((tmp_path / "scores.json").read_text())["segm"]["AP"] == results["segm"]["AP"]
    assert evaluator.collector.findings.instance.matched.tolist() == [151, 150]
    page = (tmp_path / "report.html").read_text()
    assert '<th scope="row" title="odd">' in page and "the report" not in caplog.text.lower()
