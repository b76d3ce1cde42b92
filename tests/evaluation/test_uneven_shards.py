"""More processes than images: those without an image neither hang nor change a score."""

import json

import numpy as np
import torch
import torch.distributed
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset
from detectron2.structures import Boxes, Instances
from forked import run_forked
from PIL import Image

from mask2former.evaluation.instance import InstanceEvaluator
from mask2former.evaluation.panoptic import PanopticEvaluator
from mask2former.evaluation.semantic import SemanticEvaluator

MASK = np.zeros((12, 16), bool)
MASK[2:9, 3:11] = True


def write_data(folder):
    ids = np.zeros((12, 16, 3), np.uint8)
    ids[MASK, 0] = 7
    Image.fromarray(ids).save(folder / "ids.png")
    Image.fromarray(np.where(MASK, 0, 255).astype(np.uint8)).save(folder / "labels.png")
    segment = {"id": 7, "category_id": 1, "iscrowd": 0, "area": int(MASK.sum())}
    outline = [[3, 2, 11, 2, 11, 9, 3, 9]]
    instance = {**segment, "image_id": 5, "bbox": [3, 2, 8, 7], "segmentation": outline}
    facts = {
        "images": [{"id": 5, "file_name": "a.jpg", "height": 12, "width": 16}],
        "categories": [{"id": 1, "name": "cup", "isthing": 1}],
    }
    panoptic = {"image_id": 5, "file_name": "ids.png", "segments_info": [segment]}
    (folder / "panoptic.json").write_text(json.dumps({**facts, "annotations": [panoptic]}))
    (folder / "instances.json").write_text(json.dumps({**facts, "annotations": [instance]}))


def evaluate(folder):
    name = "uneven_shards"
    record = {"file_name": "a.jpg", "image_id": 5, "sem_seg_file_name": f"{folder}/labels.png"}
    DatasetCatalog.register(name, lambda: [record])
    MetadataCatalog.get(name).set(
        panoptic_json=f"{folder}/panoptic.json",
        panoptic_root=str(folder),
        json_file=f"{folder}/instances.json",
        thing_dataset_id_to_contiguous_id={1: 0},
        stuff_dataset_id_to_contiguous_id={1: 0},
        stuff_classes=["cup"],
        ignore_label=255,
    )
    evaluators = DatasetEvaluators([PanopticEvaluator(name), InstanceEvaluator(name), SemanticEvaluator(name)])
    loader = build_detection_test_loader([record], mapper=dict, num_workers=0)
    results = inference_on_dataset(predict, loader, evaluators)
    DatasetCatalog.pop(name)
    MetadataCatalog.pop(name)
    return results


def predict(inputs):
    shifted = torch.from_numpy(np.roll(MASK, 1, axis=1))
    instances = Instances((12, 16))
    instances.pred_masks = shifted[None]
    instances.pred_boxes = Boxes(torch.tensor([[4.0, 2.0, 12.0, 9.0]]))
    instances.scores, instances.pred_classes = torch.tensor([0.9]), torch.tensor([0])
    segments = [{"id": 1, "isthing": True, "category_id": 0}]
    outputs = {"panoptic_seg": (shifted.int(), segments), "instances": instances, "sem_seg": torch.ones(1, 12, 16)}
    return [outputs for _ in inputs]


def worker(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(evaluate(folder), f"{folder}/rank{rank}.pth")
    torch.distributed.barrier()  # gloo aborts now and then where one process leaves early
    torch.distributed.destroy_process_group()


def test_two_processes_score_one_image(tmp_path):
    write_data(tmp_path)
    alone = evaluate(tmp_path)
    assert alone["panoptic_seg"]["PQ"] > 50 and alone["segm"]["AP"] > 30 and alone["sem_seg"]["mIoU"] == 100
    run_forked(worker, (str(tmp_path),))
    first, second = (torch.load(tmp_path / f"rank{rank}.pth", weights_only=False) for rank in range(2))
    np.testing.assert_equal(first, alone)  # NaN where there is nothing of that size
    assert second == {}
