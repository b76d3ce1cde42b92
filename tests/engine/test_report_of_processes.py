"""The report of several processes: of all their images, and left out if one of them fails."""

import json
import logging

import numpy as np
import pytest
import torch
import torch.distributed

import mask2former  # noqa: F401  (the processes have no conftest.py that mends Detectron2 first)

# isort: split
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from detectron2.evaluation import inference_on_dataset
from detectron2.structures import Boxes, Instances
from forked import run_forked
from PIL import Image

from mask2former.config import load_config
from mask2former.engine.reporting_evaluator import with_report
from mask2former.evaluation.build import build_evaluator

IMAGES, NAME = 3, "report_of_processes"
MASK = np.zeros((12, 16), bool)
MASK[2:9, 3:11] = True


def write_data(folder):
    ids = np.where(MASK, 7, 2)
    Image.fromarray(np.stack([ids, 0 * ids, 0 * ids], -1).astype(np.uint8)).save(folder / "ids.png")
    Image.fromarray(np.where(MASK, 0, 1).astype(np.uint8)).save(folder / "labels.png")
    categories = [{"id": 1, "name": "cup", "isthing": 1}, {"id": 5, "name": "table", "isthing": 0}]
    segments = [
        {"id": 7, "category_id": 1, "iscrowd": 0, "area": int(MASK.sum())},
        {"id": 2, "category_id": 5, "iscrowd": 0, "area": int((~MASK).sum())},
    ]
    images, panoptic, instances = [], [], []
    for number in range(1, IMAGES + 1):
        Image.fromarray(np.full((12, 16, 3), 40 * number, np.uint8)).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 12, "width": 16})
        panoptic.append({"image_id": number, "file_name": "ids.png", "segments_info": segments})
        outline = {"segmentation": [[3, 2, 11, 2, 11, 9, 3, 9]], "bbox": [3, 2, 8, 7], "id": number}
        instances.append({**segments[0], **outline, "image_id": number})
    for file, annotations in (("panoptic", panoptic), ("instances", instances)):
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{file}.json").write_text(json.dumps(content))


def predict(inputs):
    """The mask, one pixel to the right for image 1, two for image 2 ...; for 3 the classes are exchanged too."""
    outputs = []
    for one in inputs:
        number = one["image_id"]
        mask = torch.from_numpy(np.roll(MASK, number, axis=1))
        instances = Instances((12, 16))
        instances.pred_masks, instances.pred_boxes = mask[None], Boxes(torch.tensor([[4.0, 2.0, 12.0, 9.0]]))
        instances.scores, instances.pred_classes = torch.tensor([0.9]), torch.tensor([0])
        thing = number != 3
        segments = [
            {"id": 1, "isthing": thing, "category_id": int(not thing)},
            {"id": 2, "isthing": not thing, "category_id": int(thing)},
        ]
        ids = torch.where(mask, 1, 2)
        outputs.append({"panoptic_seg": (ids, segments), "instances": instances, "sem_seg_labels": ids - 1})
    return outputs


def register(folder, name):
    records = [
        {"file_name": f"{folder}/{i}.png", "image_id": i, "sem_seg_file_name": f"{folder}/labels.png"}
        for i in range(1, IMAGES + 1)
    ]
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(
        evaluator_type="coco_panoptic_seg",
        panoptic_json=f"{folder}/panoptic.json",
        panoptic_root=str(folder),
        json_file=f"{folder}/instances.json",
        thing_dataset_id_to_contiguous_id={1: 0},
        stuff_dataset_id_to_contiguous_id={1: 0, 5: 1},
        thing_classes=["cup"],
        stuff_classes=["cup", "table"],
        ignore_label=255,
    )
    return records


def evaluate(folder, out, fail=False):
    records = register(folder, NAME)
    tasks = [x for task in ("PANOPTIC", "INSTANCE", "SEMANTIC") for x in (f"MODEL.MASK_FORMER.TEST.{task}_ON", "True")]
    cfg = load_config(None, [*tasks, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(out), "DATASETS.TEST", f"('{NAME}',)"])
    reporting = with_report(cfg, NAME, build_evaluator(cfg, NAME))
    if fail:
        reporting.collector.classes.places.clear()  # so that it knows no category of the ground truth
        reporting.collector.classes.names.clear()
    loader = build_detection_test_loader(records, mapper=dict, num_workers=0)
    results = inference_on_dataset(predict, loader, reporting)
    DatasetCatalog.pop(NAME)
    MetadataCatalog.pop(NAME)
    return results


FAILING = (None, 0, 1)  # the process whose report fails


def worker(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for failing in FAILING:
        logging.basicConfig(filename=f"{folder}/log_{rank}_{failing}", level=logging.WARNING, force=True)
        found = evaluate(folder, f"{folder}/two_{failing}", rank == failing)
        torch.save(found, f"{folder}/rank_{rank}_{failing}.pth")
    torch.distributed.destroy_process_group()


def tables(page):
    """Return the text of the page, without the time it took and the configuration."""
    return page.read_text().partition('id="scores"')[2].partition('id="run"')[0].partition("</p>")[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_data(folder)
    torch.save(evaluate(folder, folder / "one"), folder / "alone.pth")
    run_forked(worker, (str(folder),))
    return folder


@pytest.mark.parametrize("failing", FAILING)
def test_two_processes_report_all_images_or_say_why_not(folder, failing):
    alone, first, second = (
        torch.load(folder / name, weights_only=False)
        for name in ("alone.pth", f"rank_0_{failing}.pth", f"rank_1_{failing}.pth")
    )
    assert 0 < alone["panoptic_seg"]["PQ"] < 100
    np.testing.assert_equal(first, alone)
    assert not second
    of_two, said = folder / f"two_{failing}", (folder / f"log_0_{failing}").read_text()
    assert json.loads((of_two / "scores.json").read_text())["panoptic_seg"] == alone["panoptic_seg"]
    if failing is None:
        page = tables(of_two / "report.html")
        assert page == tables(folder / "one" / "report.html")
        assert all(f'<span title="{i}.png">' in page for i in range(1, IMAGES + 1))
        assert "left out" not in said
    else:
        assert not (of_two / "report.html").exists()
        assert "The report on report_of_processes: left out" in said
        assert "the categories [1, 5] are in the annotations" in said
