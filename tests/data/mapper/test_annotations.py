"""Annotations of the three tasks to objects, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.data.transforms import ResizeTransform
from pycocotools import mask as coco_mask

from mask2former.data.mapper.annotations import instance_objects, panoptic_objects, semantic_objects

SIZE = (6, 8)
SaveType = Callable[..., str]


def rgb_of(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


def panoptic_record(save_png: SaveType, ids: np.ndarray, segments: list[dict[str, Any]]) -> dict[str, Any]:
    return {"file_name": "a.jpg", "pan_seg_file_name": save_png(rgb_of(ids), "ids.png"), "segments_info": segments}


def test_panoptic_segments_without_crowds_and_void(save_png: SaveType) -> None:
    ids = np.zeros(SIZE, int)
    ids[:3], ids[3:5, :4], ids[5] = 70000, 300, 5
    segments = [
        {"id": 300, "category_id": 1, "iscrowd": 0},
        {"id": 5, "category_id": 1, "iscrowd": 1},
        {"id": 70000, "category_id": 4},
    ]
    classes, masks = panoptic_objects(panoptic_record(save_png, ids, segments), SIZE, 5).to_masks()
    assert classes.tolist() == [1, 4]
    np.testing.assert_array_equal(masks.numpy(), [ids == 300, ids == 70000])


def test_panoptic_without_segments_needs_no_png() -> None:
    classes, masks = panoptic_objects({"file_name": "a.jpg", "segments_info": []}, SIZE, 5).to_masks()
    assert classes.shape == (0,) and masks.shape == (0, *SIZE)


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([{"id": 1, "category_id": 5}], "class 5"),
        ([{"id": 1, "category_id": -1}], "class -1"),
        ([{"id": 1, "category_id": 5, "iscrowd": 1}], "class 5"),
        ([{"id": 1, "category_id": 0}, {"id": 1, "category_id": 1}], "unique"),
        ([{"id": 2**24, "category_id": 0}], "integers from 1 to 16777215"),
        ([{"id": 0, "category_id": 0}], "segment 0: the id 0 stands for pixels of no segment"),
        ([{"id": 1, "category_id": 0, "iscrowd": "0"}], "segment 1: iscrowd is '0'"),
        ([{"id": 2, "category_id": 0}], "none of the image's 1 segments"),
    ],
)
def test_panoptic_faults(save_png: SaveType, segments: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        panoptic_objects(panoptic_record(save_png, np.ones(SIZE, int), segments), SIZE, 5)


def test_panoptic_png_of_another_size(save_png: SaveType) -> None:
    record = panoptic_record(save_png, np.ones((6, 9), int), [{"id": 1, "category_id": 0}])
    with pytest.raises(SizeMismatchError, match=r"a\.jpg.*ids\.png.*\(6, 9\).*\(6, 8\)"):
        panoptic_objects(record, SIZE, 5)


def test_instances_by_polygon_run_lengths_and_bit_mask() -> None:
    masks = np.zeros((4, *SIZE), bool)
    masks[0, 1:4, 2:5], masks[1, 0:5, 1:8], masks[2, 2:, 3:4], masks[3, :2, :2] = True, True, True, True
    compressed = coco_mask.encode(np.asfortranarray(masks[1].astype(np.uint8)))
    plain = {"size": list(SIZE), "counts": [3 * 6 + 2, 4, 4 * 6]}
    segmentations = [[[2, 1, 5, 1, 5, 4, 2, 4]], compressed, plain, masks[3]]
    annotations = [{"category_id": i, "segmentation": s} for i, s in enumerate(segmentations)]
    annotations.insert(1, {"category_id": 0, "iscrowd": 1, "segmentation": compressed})
    classes, drawn = instance_objects({"file_name": "a.jpg", "annotations": annotations}, SIZE, 4).to_masks()
    assert classes.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(drawn.numpy(), masks)


def test_polygons_too_short_to_cover_a_pixel_are_left_out() -> None:
    # pycocotools would take four numbers for a box.
    annotation = {"category_id": 0, "segmentation": [[1, 1, 4, 4], [0, 0, 2, 0, 2, 2, 0, 2]]}
    _, masks = instance_objects({"file_name": "a.jpg", "annotations": [annotation]}, SIZE, 1).to_masks()
    assert masks.sum() == 4
    only_short = {"category_id": 0, "segmentation": [[1, 1, 4, 4]]}
    assert len(instance_objects({"file_name": "a.jpg", "annotations": [only_short]}, SIZE, 1).to_masks()[0]) == 0


def test_boxes_alone_are_left_out() -> None:
    annotations = [{"category_id": 0, "segmentation": mask} for mask in (None, [], [[0, 0, 2, 0, 2, 2, 0, 2]])]
    objects = instance_objects({"file_name": "a.jpg", "annotations": [{"category_id": 0}, *annotations]}, SIZE, 1)
    assert objects.classes.tolist() == [0] and objects.to_masks()[1].sum() == 4


def test_annotations_are_not_changed() -> None:
    points = np.array([2.0, 1.0, 5.0, 1.0, 5.0, 4.0])
    record = {"file_name": "a.jpg", "annotations": [{"category_id": 0, "segmentation": [points]}]}
    objects = instance_objects(record, SIZE, 1)
    objects.transform(ResizeTransform(6, 8, 12, 16), (12, 16))  # works in place
    assert objects.polygons[0].points[0].tolist() == [4.0, 2.0]
    assert points.tolist() == [2.0, 1.0, 5.0, 1.0, 5.0, 4.0]


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"category_id": 3, "segmentation": [[0, 0, 2, 0, 2, 2]]}, "class 3"),
        ({"category_id": 0, "segmentation": "abc"}, "found no mask"),
        ({"category_id": 0, "segmentation": 5}, "found no mask"),
        ({"category_id": 0, "segmentation": [{"x": 1, "y": 2}]}, "flat list"),
        ({"category_id": 0, "segmentation": [["0", "0", "2", "0", "2", "2"]]}, "flat list"),
        ({"category_id": 0, "iscrowd": "false", "segmentation": [[0, 0, 2, 0, 2, 2]]}, "iscrowd is 'false'"),
        ({"category_id": 0, "segmentation": [[0, 0, 2, 0, 2, 2, 1]]}, "flat list"),
        ({"category_id": 0, "segmentation": [[[0, 0], [2, 0], [2, 2]]]}, "flat list"),
        ({"category_id": 0, "segmentation": [[0, 0, 2, 0, 2, float("nan")]]}, "flat list"),
        ({"category_id": 0, "segmentation": {"size": [8, 6], "counts": [0, 48]}}, "size"),
        ({"category_id": 0, "segmentation": {"size": [6, 8], "counts": [0, 47]}}, "47"),
        ({"category_id": 0, "segmentation": np.zeros((8, 6), bool)}, "size"),
    ],
)
@pytest.mark.parametrize("identity", [{"id": 77}, {}])
def test_instance_faults(annotation: dict[str, Any], message: str, identity: dict[str, int]) -> None:
    record = {"file_name": "a.jpg", "annotations": [{**annotation, **identity}]}
    with pytest.raises(ValueError, match=r"a\.jpg, annotation " + ("77" if identity else "number 0") + ".*" + message):
        instance_objects(record, SIZE, 3)


def test_semantic_gives_one_object_a_class(save_png: SaveType) -> None:
    labels = np.full(SIZE, 255, np.uint8)
    labels[:2], labels[4:, 3:] = 3, 0
    record = {"file_name": "a.jpg", "sem_seg_file_name": save_png(labels)}
    classes, masks = semantic_objects(record, SIZE, 4, ignore_label=255).to_masks()
    assert classes.tolist() == [0, 3]
    np.testing.assert_array_equal(masks.numpy(), [labels == 0, labels == 3])


def test_semantic_of_ignored_pixels_alone(save_png: SaveType) -> None:
    record = {"file_name": "a.jpg", "sem_seg_file_name": save_png(np.full(SIZE, 65, np.uint8))}
    classes, masks = semantic_objects(record, SIZE, 65, ignore_label=65).to_masks()
    assert classes.shape == (0,) and masks.shape == (0, *SIZE)


def test_semantic_with_more_classes_than_a_byte_holds(save_png: SaveType) -> None:
    labels = np.arange(48, dtype=np.uint16).reshape(SIZE) * 17
    record = {"file_name": "a.jpg", "sem_seg_file_name": save_png(labels)}
    classes, masks = semantic_objects(record, SIZE, 847, ignore_label=65535).to_masks()
    assert classes.tolist() == labels.reshape(-1).tolist()
    np.testing.assert_array_equal(masks.reshape(48, 48).numpy(), np.eye(48, dtype=bool))


def test_semantic_label_out_of_range(save_png: SaveType) -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[2, 3] = 11
    record = {"file_name": "a.jpg", "sem_seg_file_name": save_png(labels)}
    with pytest.raises(ValueError, match=r"labels\.png.*label 11.*11 classes"):
        semantic_objects(record, SIZE, 11, ignore_label=255)


def test_semantic_png_of_another_size(save_png: SaveType) -> None:
    record = {"file_name": "a.jpg", "sem_seg_file_name": save_png(np.zeros((8, 6), np.uint8))}
    with pytest.raises(SizeMismatchError, match=r"labels\.png"):
        semantic_objects(record, SIZE, 11, ignore_label=255)


@pytest.mark.parametrize(
    ("read", "key"),
    [
        (panoptic_objects, "segments_info"),
        (instance_objects, "annotations"),
        (lambda *arguments: semantic_objects(*arguments, ignore_label=255), "sem_seg_file_name"),
    ],
)
def test_data_set_of_another_task(read: Callable, key: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.jpg.*{key}.*DATASET_MAPPER_NAME"):
        read({"file_name": "a.jpg"}, SIZE, 3)
