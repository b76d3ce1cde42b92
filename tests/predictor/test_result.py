"""Results in every form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch._subclasses.fake_tensor import FakeTensorMode

from mask2former import Predictor
from mask2former.data.images.read import panoptic_png
from mask2former.predictor import Result
from mask2former.tiling import TiledInference

EVERYTHING = 0.01  # a threshold that random weights pass
HEIGHT, WIDTH = 48, 64


def same(one: Result, other: Result) -> bool:
    return np.array_equal(one.panoptic, other.panoptic) and np.array_equal(one.semantic, other.semantic)


def test_arrays_agree_with_the_model(predictor: Predictor, image: np.ndarray) -> None:
    predictor.model.object_mask_threshold, before = EVERYTHING, predictor.model.object_mask_threshold
    try:
        outputs = predictor.outputs(image)
    finally:
        predictor.model.object_mask_threshold = before
    result = predictor(image)
    ids, segments = outputs["panoptic_seg"]
    assert result.panoptic.dtype == np.int32
    assert np.array_equal(result.panoptic, ids.numpy())
    assert [s["id"] for s in result.segments] == [s["id"] for s in segments]
    assert sum(s["area"] for s in result.segments) == (result.panoptic > 0).sum()
    assert np.array_equal(result.semantic, outputs["sem_seg"].argmax(0).numpy())

    expected = outputs["instances"][outputs["instances"].scores >= EVERYTHING]
    found = result.instances
    assert len(found) == len(expected) > 0
    assert np.all(np.diff(found.scores) <= 0)
    assert np.allclose(np.sort(found.scores), np.sort(expected.scores.numpy()))
    assert found.masks.shape == (len(found), HEIGHT, WIDTH)
    for mask, box in zip(found.masks, found.boxes, strict=True):
        if mask.any():
            ys, xs = np.nonzero(mask)
            assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_another_threshold_needs_no_other_run(predictor: Predictor, image: np.ndarray, folder: Path) -> None:
    result = predictor(image)
    none = result.at_threshold(1.0)
    assert len(none.instances) == len(none.segments) == 0
    assert len(result.instances) and len(result.segments)
    assert none.semantic is not None
    frame = next(predictor.stream([image], track=True)).compute()
    with pytest.raises(ValueError, match="before compute"):
        frame.at_threshold(0.5)


def test_large_images_are_cut_into_tiles(folder: Path, predictor: Predictor, image: np.ndarray) -> None:
    tiled = Predictor(folder, threshold=EVERYTHING, tile=64, overlap=16)
    assert same(tiled(image), predictor(image))  # one tile: as if there were none
    large = np.random.default_rng(1).integers(0, 256, (80, 150, 3), dtype=np.uint8)
    pixels = torch.from_numpy(large.transpose(2, 0, 1).copy())
    with torch.no_grad():
        expected = TiledInference(predictor.model, 64, 16)([{"image": pixels}])[0]
    result, outputs = tiled(large), tiled.outputs(large)
    assert np.array_equal(result.semantic, expected["sem_seg"].argmax(0).numpy())
    scores = expected["instances"].scores.sort(descending=True).values
    assert np.array_equal(result.instances.scores, scores[scores >= EVERYTHING].numpy()) and len(scores)
    places = [expected["instances"].scores.tolist().index(score) for score in result.instances.scores.tolist()]
    assert np.array_equal(result.instances.masks, expected["instances"].pred_masks[places].numpy())
    assert result.segments and result.panoptic.shape == large.shape[:2] == tuple(outputs["panoptic_seg"][0].shape)
    assert torch.equal(outputs["panoptic_seg"][0], expected["panoptic_seg"][0])  # at the configuration's threshold
    first = next(tiled.stream([large]))
    assert first.segments and not first.at_threshold(1.0).segments
    only = Predictor(folder, tasks=["semantic"], tile=64, overlap=16)(large)
    assert np.array_equal(only.semantic, result.semantic)
    with pytest.raises(ValueError, match="tile is 64, overlap 32"):
        Predictor(folder, tile=64, overlap=32)
    with pytest.raises(ValueError, match="tile is 0; it has to be at least 1"):
        Predictor(folder, tile=0)


class FoundBefore(torch.nn.Module):
    """Stands for a model of Detectron2's own: gives the same things and stuff for every image."""

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        outputs = []
        for inputs in batch:
            ids = torch.zeros(inputs["height"], inputs["width"], dtype=torch.int32)
            ids[:10], ids[10:20], ids[20:30] = 1, 2, 3
            segments = [
                {"id": 1, "isthing": True, "score": 0.9, "category_id": 1, "instance_id": 0},
                {"id": 2, "isthing": True, "score": 0.4, "category_id": 2, "instance_id": 1},
                {"id": 3, "isthing": False, "category_id": 8, "area": 10},
            ]
            outputs.append({"panoptic_seg": (ids, segments)})
        return outputs


def test_threshold_of_other_architectures(folder: Path, image: np.ndarray) -> None:
    """Of things that have a score; in tiles too, whose joined segments have none."""
    predictor = Predictor(folder, tasks=["panoptic"])
    predictor.model = FoundBefore()
    result = next(predictor.stream([image]))
    assert [s["class_id"] for s in result.segments] == [1, 2, 8]
    chosen = result.at_threshold(0.5)
    assert [s["class_id"] for s in chosen.segments] == [1, 8]
    assert [int(chosen.panoptic[row, 0]) for row in (5, 15, 25)] == [1, 0, 3]
    assert [s["class_id"] for s in result.segments] == [1, 2, 8]

    large = np.zeros((30, 200, 3), np.uint8)
    tiled = Predictor(folder, tasks=["panoptic"], tile=128, overlap=16, threshold=0.5)
    tiled.model = predictor.model
    assert [s["class_id"] for s in tiled(large).segments] == [1, 8]


@pytest.mark.parametrize("width", [40, 100])
def test_outputs_lie_on_the_cpu_where_there_are_tiles(folder: Path, width: int) -> None:
    """Those of an image that is not cut too; the device is one that needs no hardware."""

    def model(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"sem_seg": torch.zeros(2, one["height"], one["width"], device="cuda")} for one in batch]

    predictor = Predictor(folder, tasks=["semantic"], tile=64, overlap=16)
    predictor.model = model  # type: ignore[assignment]
    with FakeTensorMode():
        scores = predictor.outputs(np.zeros((50, width, 3), np.uint8))["sem_seg"]
    assert scores.device.type == "cpu" and scores.shape == (2, 50, width)


def test_every_task_by_itself(predictor: Predictor, image: np.ndarray) -> None:
    """What was asked for first does not change what comes next."""
    first, second = predictor(image), predictor(image)
    assert np.array_equal(first.instances.masks, second.compute().instances.masks)
    assert same(first, second)


def test_drawing_and_saving(predictor: Predictor, image: np.ndarray, tmp_path: Path) -> None:
    result = predictor(image)
    plain, legend = result.draw(), result.draw(legend=True)
    assert legend.shape[0] > plain.shape[0]
    assert np.array_equal(legend[: plain.shape[0]], plain)
    assert result.draw(beside=True).shape[1] > 2 * plain.shape[1]
    file = result.save(tmp_path / "new" / "out.png", "semantic", "masks")
    assert np.array_equal(np.array(Image.open(file)), result.draw("semantic", "masks"))
    assert result._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(OSError, match=r"out\.nothing: no image format"):
        result.save(tmp_path / "out.nothing")
    with pytest.raises(ValueError, match="mode is 'mask'"):
        result.draw(mode="mask")


def test_label_maps(predictor: Predictor, image: np.ndarray, tmp_path: Path) -> None:
    result = predictor(image)
    for task, expected in {"panoptic": result.panoptic, "semantic": result.semantic}.items():
        labels = result.draw(task, "labels")
        assert labels.dtype == np.uint8
        assert np.array_equal(labels, expected)
    best = result.label_map("instance")
    assert np.all(best[result.instances.masks[0]] == 1)
    assert np.array_equal(best == 0, ~result.instances.masks.any(axis=0))
    result._found["semantic"] = result.semantic * 100  # as many classes
    file = result.save(tmp_path / "labels.png", "semantic", "labels")
    assert np.array_equal(np.array(Image.open(file)), result.semantic)
    assert result.label_map("semantic").dtype == np.uint16


def test_masks_as_files(predictor: Predictor, image: np.ndarray, tmp_path: Path) -> None:
    result = predictor(image)
    files = result.save_masks(tmp_path, "panoptic")
    assert len(files) == len(result.segments)
    for file, segment in zip(files, result.segments, strict=True):
        assert segment["name"] in file.name
        assert np.array_equal(np.array(Image.open(file)) == 255, result.panoptic == segment["id"])


def test_coco_files(predictor: Predictor, image: np.ndarray, tmp_path: Path) -> None:
    result = predictor(image)
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(result.to_coco("instance", image_id=7)))
    coco = COCO(str(file))
    found = result.instances
    back = predictor.metadata.thing_dataset_id_to_contiguous_id
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=[7]))
    assert len(annotations) == len(found)
    for annotation, mask, number, score in zip(annotations, found.masks, found.classes, found.scores, strict=True):
        assert np.array_equal(coco.annToMask(annotation).astype(bool), mask)
        assert back[annotation["category_id"]] == number
        assert coco.cats[annotation["category_id"]]["name"] == predictor.metadata.thing_classes[number]
        assert annotation["score"] == pytest.approx(float(score))

    panoptic = json.loads(json.dumps(result.to_coco("panoptic")))
    png = panoptic_png(result.panoptic).astype(int)
    assert np.array_equal(png @ (1, 256, 65536), result.panoptic)
    names = {category["id"]: category["name"] for category in panoptic["categories"]}
    for entry, segment in zip(panoptic["annotations"][0]["segments_info"], result.segments, strict=True):
        assert (entry["id"], entry["area"], names[entry["category_id"]]) == (
            segment["id"],
            segment["area"],
            segment["name"],
        )
    semantic = result.to_coco("semantic")["annotations"]
    assert sum(annotation["area"] for annotation in semantic) == HEIGHT * WIDTH


def test_panoptic_quality_of_a_result_against_itself_is_one(
    predictor: Predictor, image: np.ndarray, tmp_path: Path
) -> None:
    """The official program reads what we write."""
    evaluation = pytest.importorskip("panopticapi.evaluation", reason="panopticapi is not installed")
    result = predictor(image)
    content = result.to_coco("panoptic")
    assert content["annotations"][0]["segments_info"]
    (tmp_path / "panoptic").mkdir()
    Image.fromarray(panoptic_png(result.panoptic)).save(tmp_path / "panoptic" / content["annotations"][0]["file_name"])
    pngs = str(tmp_path / "panoptic")
    found = {segment["category_id"]: segment for segment in content["annotations"][0]["segments_info"]}
    stat = evaluation.pq_compute_single_core(
        0,
        [(content["annotations"][0], content["annotations"][0])],
        pngs,
        pngs,
        {category["id"]: category for category in content["categories"]},
    )
    for category in found:
        assert stat[category].tp and not stat[category].fp and not stat[category].fn


def test_supervision(predictor: Predictor, image: np.ndarray) -> None:
    pytest.importorskip("supervision", reason="the optional package supervision is not installed")
    result = predictor(image)
    detections = result.to_supervision()
    assert np.array_equal(detections.xyxy, result.instances.boxes)
    assert np.array_equal(detections.mask, result.instances.masks)
    assert detections.data["class_name"][0] == predictor.names[result.instances.classes[0]]
    segments = result.to_supervision("panoptic")
    assert len(segments) == len(result.segments)
    with pytest.raises(ValueError, match="no detections"):
        result.to_supervision("semantic")


def test_label_numbers_are_never_changed_by_a_format(predictor: Predictor, image: np.ndarray, tmp_path: Path) -> None:
    result = predictor(image)
    with pytest.raises(ValueError, match=r"labels\.jpg: this format would change label numbers"):
        result.save(tmp_path / "labels.jpg", mode="labels")
    assert result.save(tmp_path / "labels.png", mode="labels").is_file()
