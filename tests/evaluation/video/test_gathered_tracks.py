"""Two processes (gloo) score tracks and write results.json as one process does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
import video_data as data
from detectron2.data import MetadataCatalog, build_detection_test_loader
from detectron2.evaluation import inference_on_dataset
from forked import run_forked
from pycocotools import mask as coco_mask

from mask2former import YTVISEvaluator


def write(folder: Path) -> None:
    """Write three videos, so that the processes have an uneven share: those of ``video_data``, and one twice."""
    content = data.youtube_vis()
    content["videos"].append({**content["videos"][0], "id": 9})
    copies = [one for one in content["annotations"] if one["video_id"] == 2]
    content["annotations"] += [{**one, "id": one["id"] + 100, "video_id": 9} for one in copies]
    (folder / "videos.json").write_text(json.dumps(content))


def predict(inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Find the video's objects, moved by as many columns as its id tells, and one that is not there."""
    tracks = [one for one in inputs[0]["truth"] if one["video_id"] == inputs[0]["video_id"]]
    empty = np.zeros((data.HEIGHT, data.WIDTH), bool)
    masks = [
        np.stack([empty if rle is None else coco_mask.decode(rle) > 0 for rle in one["segmentations"]])
        for one in tracks
    ]
    moved = [torch.from_numpy(np.roll(mask, inputs[0]["video_id"] % 4, axis=2)) for mask in masks]
    labels = [one["category_id"] - 1 for one in tracks]
    scores = [0.9 - 0.1 * place for place in range(len(moved))]
    wrong = torch.zeros_like(moved[0])
    wrong[0, :5, -5:] = True
    return {"pred_scores": [*scores, 0.55], "pred_labels": [*labels, 0], "pred_masks": [*moved, wrong]}


def evaluate(folder: Path, output: Path) -> dict[str, Any]:
    name = "gathered_tracks"
    file = str(folder / "videos.json")
    MetadataCatalog.get(name).set(json_file=file, thing_dataset_id_to_contiguous_id={1: 0, 2: 1})
    content = json.loads((folder / "videos.json").read_text())
    records = [{"video_id": one["id"], "truth": content["annotations"]} for one in content["videos"]]
    try:
        loader = build_detection_test_loader(records, mapper=dict, num_workers=0)
        return dict(inference_on_dataset(predict, loader, YTVISEvaluator(name, output_dir=str(output))))
    finally:
        MetadataCatalog.pop(name)


def worker(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(evaluate(folder, folder / "two"), folder / f"rank{rank}.pth")
    torch.distributed.barrier()  # gloo aborts now and then where one process leaves early
    torch.distributed.destroy_process_group()


def test_two_processes_score_as_one(tmp_path: Path) -> None:
    write(tmp_path)
    alone = evaluate(tmp_path, tmp_path / "one")
    assert 20 < alone["segm"]["AP"] < 90  # neither all right nor all wrong: some IoUs are reached
    run_forked(worker, (tmp_path,))
    first, second = (torch.load(tmp_path / f"rank{rank}.pth", weights_only=False) for rank in range(2))
    np.testing.assert_equal(first, alone)  # NaN where there is nothing of that size
    assert second == {}
    one, two = ((tmp_path / name / "results.json").read_bytes() for name in ("one", "two"))
    assert one == two and {entry["video_id"] for entry in json.loads(one)} == {2, 5, 9}
