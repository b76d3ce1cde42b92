"""A data set of a few drawn images with names that try to break a page, and outputs of a model for it."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from panopticapi.utils import id2rgb
from PIL import Image
from pycocotools import mask as mask_util

from mask2former.dashboard.collector import Collector
from mask2former.dashboard.report import EvaluationRecord, write_report
from mask2former.evaluation.instance import InstanceEvaluator
from mask2former.evaluation.panoptic import PanopticEvaluator
from mask2former.evaluation.semantic import SemanticEvaluator

NAMES = ['<b>&"', "</script><script>fail()</script>", "grass", "никто"]
SIZE = (48, 64)
IDS = {7: 0, 9: 1, 2: 2, 4: 3}  # category ids of the files -> classes
BUILDERS = {"panoptic": PanopticEvaluator, "instance": InstanceEvaluator, "semantic": SemanticEvaluator}


def run_length(mask):
    rle = mask_util.encode(np.asfortranarray(mask, np.uint8))
    return {**rle, "counts": rle["counts"].decode()}


@pytest.fixture
def images(tmp_path):
    """(records, metadata, outputs) of a registered data set for all three tasks; classes 0 and 1 are things."""
    rng = np.random.default_rng(5)
    records, outputs = [], []
    for number in range(5):
        classes = np.array([2, 3, 0, 1, 0])
        ids = np.ones(SIZE, np.int64)
        ids[24:] = 2
        for segment in (3, 4, 5):
            y, x = rng.integers(0, 36), rng.integers(0, 50)
            ids[y : y + 12, x : x + 12] = segment
        files = {kind: str(tmp_path / f"{kind}{number}.png") for kind in ("image", "panoptic", "semantic")}
        Image.fromarray(rng.integers(0, 255, (*SIZE, 3), np.uint8)).save(files["image"])
        Image.fromarray(id2rgb(ids.astype(np.uint32))).save(files["panoptic"])
        labels = classes[ids - 1].astype(np.uint8)
        labels[:3] = 255
        Image.fromarray(labels).save(files["semantic"])
        found = [i for i in range(1, 6) if (ids == i).any()]
        masks = np.stack([ids == i for i in found])
        things = [j for j, i in enumerate(found) if classes[i - 1] < 2]
        records.append(
            {
                "file_name": files["image"],
                "image_id": number,
                "pan_seg_file_name": files["panoptic"],
                "sem_seg_file_name": files["semantic"],
                "segments_info": [
                    {"id": i, "category_id": int(classes[i - 1]), "isthing": bool(classes[i - 1] < 2)} for i in found
                ],
                "annotations": [
                    {
                        "id": j,
                        "category_id": int(classes[found[j] - 1]),
                        "segmentation": run_length(masks[j]),
                        "iscrowd": 0,
                    }
                    for j in things
                ],
            }
        )
        moved = np.roll(ids, number, axis=1)
        guesses = np.where(rng.random(6) < 0.2, 1, np.array([9, *classes]))
        segments = [
            {"id": int(i), "category_id": int(guesses[i]), "isthing": bool(guesses[i] < 2)} for i in np.unique(moved)
        ]
        instances = Instances(
            SIZE,
            pred_masks=torch.from_numpy(np.roll(masks[things], number, axis=2)).float(),
            pred_boxes=Boxes(torch.ones(len(things), 4)),
            pred_classes=torch.tensor([int(guesses[found[j]]) % 2 for j in things], dtype=torch.int64),
            scores=torch.linspace(0.95, 0.55, len(things)),
        )
        scores = np.stack([guesses[moved] == k for k in range(4)]).astype(np.float32)
        outputs.append(
            {
                "panoptic_seg": (torch.from_numpy(moved), segments),
                "instances": instances,
                "sem_seg": torch.from_numpy(scores),
            }
        )
    write_files(tmp_path, records)
    DatasetCatalog.register("dashboard_images", lambda: records)
    metadata = MetadataCatalog.get("dashboard_images").set(
        stuff_classes=NAMES,
        thing_classes=NAMES,
        ignore_label=255,
        thing_dataset_id_to_contiguous_id={7: 0, 9: 1},
        stuff_dataset_id_to_contiguous_id=IDS,
        panoptic_json=str(tmp_path / "panoptic.json"),
        panoptic_root=str(tmp_path),
        json_file=str(tmp_path / "instances.json"),
    )
    yield records, metadata, outputs
    MetadataCatalog.pop("dashboard_images")
    DatasetCatalog.pop("dashboard_images")


def write_files(folder, records):
    """The annotation files of records with contiguous classes; without a panoptic one where a record names none."""
    file_ids = {place: id_ for id_, place in IDS.items()}
    categories = [{"id": id_, "name": NAMES[place], "isthing": int(place < 2)} for id_, place in IDS.items()]
    images = [{"id": r["image_id"], "file_name": r["file_name"], "height": SIZE[0], "width": SIZE[1]} for r in records]

    def of_file(annotation, **more):
        return {"iscrowd": 0, **annotation, "category_id": file_ids[annotation["category_id"]], "area": 1, **more}

    panoptic = [
        {
            "image_id": r["image_id"],
            "file_name": f"panoptic{r['image_id']}.png",
            "segments_info": [of_file(segment) for segment in r["segments_info"]],
        }
        for r in records
        if "pan_seg_file_name" in r
    ]
    instances = [
        of_file(annotation, image_id=r["image_id"], id=100 * r["image_id"] + number, bbox=[0, 0, 1, 1])
        for r in records
        for number, annotation in enumerate(r["annotations"], start=1)
    ]
    for name, annotations in (("panoptic", panoptic), ("instances", instances)):
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture
def collect(images):
    """collect(tasks, records, outputs) -> a Collector that the evaluators of the tasks have told of their images."""
    all_records, metadata, all_outputs = images

    def run(tasks, records=all_records, outputs=all_outputs, **options):
        collector = Collector(metadata, tasks, **options)
        for task in tasks:
            evaluator = BUILDERS[task]("dashboard_images")
            evaluator.on_image = collector.add
            evaluator.reset()
            evaluator.process(records, outputs)
        return collector

    return run


@pytest.fixture
def report(collect, tmp_path):
    """report(tasks) -> file of the page."""

    def write(*tasks):
        collector = collect(tasks, examples=2)
        evaluated = EvaluationRecord(
            title="a <run>",
            dataset="some & other",
            results={"panoptic_seg": {"PQ": 51.25, "PQ_th": float("nan")}},
            images=5,
            findings=Collector.together([collector.findings]),
            classes=collector.classes,
            left_out={"dreams": "nobody <looks>"},
            masks=None,
            facts={"Device": "<none>"},
            config="MODEL: {A: '<&>'}\n",
        )
        return write_report(tmp_path / "report.html", evaluated)

    return write


@pytest.fixture
def run_folder(tmp_path):
    """make(name, lines, **config) -> output folder of a training."""

    def make(name, lines=60, score=50.0, **config):
        folder = tmp_path / name
        folder.mkdir()
        with open(folder / "metrics.json", "w") as file:
            for i in range(19, 20 * lines, 20):
                row = {"iteration": i, "total_loss": 100 / (i + 1), "lr": 1e-4, "time": 0.5, "memory_gib": 1.5}
                for part in ("loss_ce", "loss_mask", "loss_dice"):
                    row |= {part: 3 / (i + 1), f"{part}_0": 5 / (i + 1), f"{part}_1": 4 / (i + 1)}
                file.write(json.dumps(row) + "\n")
                if i % 200 == 199:
                    file.write(json.dumps({"iteration": i, "panoptic_seg/PQ": score * i / (20 * lines)}) + "\n")
            last = {"iteration": 20 * lines, "panoptic_seg/PQ": score, "segm/AP": float("nan")}
            file.write(json.dumps(last) + "\n")
        text = json.dumps({"SOLVER": {"IMS_PER_BATCH": 4, "MAX_ITER": 20 * lines, **config}, "OUTPUT_DIR": name})
        (folder / "config.yaml").write_text(text)
        return folder

    return make
