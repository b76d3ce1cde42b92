"""Data of one's own: told apart, checked, split, completed, and read as the mapper and the evaluators want them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mask2former.custom import CustomDataset, DataError, build_dataset, detect_format

SIZE = 40
CATEGORIES = [{"id": 30, "name": "disc"}, {"id": 7, "name": "square"}]  # with holes, and not in order


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(1, 7):
        Image.fromarray(np.full((SIZE, SIZE, 3), 20 * number, np.uint8)).save(folder / f"p{number}.png")
    return folder


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    for name in [name for name in DatasetCatalog.list() if name.startswith("custom_")]:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def image_list(numbers: range) -> list[dict[str, Any]]:
    return [{"id": n, "file_name": f"p{n}.png", "height": SIZE, "width": SIZE} for n in numbers]


def rectangle(x: int, y: int, side: int) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[y : y + side, x : x + side] = 1
    return mask


def instances(numbers: range = range(1, 7)) -> dict[str, Any]:
    """Polygons, both kinds of run lengths and a crowd in image 1; one polygon in 2; nothing in the others."""
    compressed = coco_mask.encode(np.asfortranarray(rectangle(20, 20, 6)))
    plain = {"size": [SIZE, SIZE], "counts": [0, 80, SIZE * SIZE - 80]}
    annotations = [
        {"image_id": 1, "category_id": 30, "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]]},
        {"image_id": 1, "category_id": 7, "segmentation": compressed | {"counts": compressed["counts"].decode()}},
        {"image_id": 1, "category_id": 7, "segmentation": plain},
        {"image_id": 1, "category_id": 7, "iscrowd": 1, "segmentation": plain},
        {"image_id": 2, "category_id": 7, "segmentation": [[1, 1, 5, 1, 5, 5]]},
    ]
    return {
        "images": image_list(numbers),
        "categories": CATEGORIES,
        "annotations": [a for a in annotations if a["image_id"] in numbers],
    }


def write(path: Path, content: Any) -> str:
    path.write_text(json.dumps(content))
    return str(path)


def own(tmp_path: Path, train: list[str], val: list[str] | None = None, **settings: Any) -> CustomDataset:
    data = build_dataset(detect_format(train), detect_format(val) if val else None, tmp_path / "data", "t", **settings)
    data.register()
    return data


def test_objects_without_validation_are_split(tmp_path: Path, images: Path) -> None:
    data = own(tmp_path, [write(tmp_path / "i.json", instances()), str(images)])
    assert (data.kind, data.train.num_images, data.val.num_images) == ("instance", 5, 1)
    assert any("1 of 6 images are held out" in note for note in data.notes)
    records = {part.name: DatasetCatalog.get(part.name) for part in (data.train, data.val)}
    ids = {name: {record["image_id"] for record in found} for name, found in records.items()}
    assert (
        ids["custom_t_train"] | ids["custom_t_val"] == set(range(1, 7))
        and not ids["custom_t_train"] & ids["custom_t_val"]
    )
    meta = MetadataCatalog.get("custom_t_train")
    assert meta.thing_classes == ["square", "disc"]  # by ascending id
    assert meta.thing_dataset_id_to_contiguous_id == {7: 0, 30: 1}
    assert len(set(map(tuple, meta.thing_colors))) == 2


def test_the_split_is_the_same_each_time(tmp_path: Path, images: Path) -> None:
    file = write(tmp_path / "i.json", instances())
    first, second = (build_dataset(detect_format([file, str(images)]), None, tmp_path / "data", "t") for _ in range(2))
    assert first.val.only == second.val.only and first.val.only


def test_truth_for_the_evaluation_is_completed(tmp_path: Path, images: Path) -> None:
    train = [write(tmp_path / "i.json", instances()), str(images)]
    val = [write(tmp_path / "v.json", instances(range(1, 3))), str(images)]
    data = own(tmp_path, train, val)
    truth = COCO(data.val.paths["json_file"])
    assert sorted(truth.imgs) == [1, 2] and 0 not in truth.anns and len(truth.anns) == 5
    by_area = sorted((a["area"], a["iscrowd"]) for a in truth.anns.values())
    assert by_area[1:] == [(36, 0), (80, 0), (80, 1), (100, 0)]
    square = next(a for a in truth.anns.values() if a["area"] == 36)
    assert square["bbox"] == [20, 20, 6, 6]
    assert np.array_equal(truth.annToMask(square), rectangle(20, 20, 6))


def panoptic(folder: Path, numbers: range = range(1, 7)) -> dict[str, Any]:
    """A square of two objects before grass; segment ids over 255; image 3 is all grass."""
    folder.mkdir(exist_ok=True)
    categories = [
        {"id": 5, "name": "grass", "isthing": 0},
        {"id": 9, "name": "box", "isthing": 1},
    ]
    entries = []
    for number in numbers:
        ids = np.full((SIZE, SIZE), 300)
        segments = [{"id": 300, "category_id": 5}]
        if number != 3:
            ids[:10, :10], ids[20:25, 20:25] = 70000, 2
            segments += [{"id": 70000, "category_id": 9}, {"id": 2, "category_id": 9}]
        ids[-1] = 0  # no segment
        Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)).save(
            folder / f"p{number}.png"
        )
        entries.append({"image_id": number, "file_name": f"p{number}.png", "segments_info": segments})
    return {"images": image_list(numbers), "categories": categories, "annotations": entries}


def test_panoptic_data_give_truth_for_all_three_scores(tmp_path: Path, images: Path) -> None:
    file = write(tmp_path / "pan.json", panoptic(tmp_path / "pngs"))
    data = own(tmp_path, [file, str(images), str(tmp_path / "pngs")], [file, str(images), str(tmp_path / "pngs")])
    assert data.kind == "panoptic"
    meta = MetadataCatalog.get("custom_t_val")
    assert (meta.thing_classes, meta.stuff_classes) == (["box"], ["box", "grass"])
    truth = COCO(meta.json_file)
    assert sorted(a["area"] for a in truth.loadAnns(truth.getAnnIds(imgIds=[1]))) == [25, 100]
    assert truth.getAnnIds(imgIds=[3]) == []
    labels = np.asarray(Image.open(Path(meta.sem_seg_root, "p1.png")))
    assert (labels[0, 0], labels[15, 15], labels[-1, 0]) == (0, 1, 255)
    areas = json.loads(Path(meta.panoptic_json).read_text())["annotations"][0]["segments_info"]
    assert {segment["id"]: segment["area"] for segment in areas} == {300: 1435, 70000: 100, 2: 25}
    records = DatasetCatalog.get("custom_t_val")
    assert all(Path(record["sem_seg_file_name"]).is_file() for record in records)


def test_the_folder_of_panoptic_pngs_is_found_beside_the_file(tmp_path: Path, images: Path) -> None:
    file = write(tmp_path / "pan.json", panoptic(tmp_path / "pan"))
    assert detect_format([file, str(images)]).pngs == str(tmp_path / "pan")


def labels(folder: Path, values: list[int], mode: type = np.uint8) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(1, 7):
        rows = np.repeat(np.array(values, mode), SIZE // len(values) + 1)[:SIZE]
        Image.fromarray(np.tile(rows[:, None], (1, SIZE))).save(folder / f"p{number}.png")
    return folder


def test_label_files_with_names(tmp_path: Path, images: Path) -> None:
    folder = labels(tmp_path / "labels", [0, 1, 255])
    data = own(tmp_path, [str(images), str(folder)], class_names=["sky", "road", "sea"])
    assert MetadataCatalog.get("custom_t_train").stuff_classes == ["sky", "road", "sea"]
    assert data.train.source.pngs == str(folder) and data.ignore_label == 255
    assert any("shows sea" in note for note in data.notes)


def test_labels_with_holes_are_written_anew(tmp_path: Path, images: Path) -> None:
    folder = labels(tmp_path / "labels", [3, 1000, 7], np.uint16)
    (folder / "p1.png").unlink()
    Image.fromarray(np.full((SIZE, SIZE), 255, np.uint8)).save(folder / "p1.png")
    data = own(tmp_path, [str(images), str(folder)])
    assert MetadataCatalog.get("custom_t_train").stuff_classes == ["class 3", "class 7", "class 1000"]
    written = np.asarray(Image.open(Path(str(data.train.source.pngs), "p2.png")))
    assert written[:, 0].tolist() == [0] * 14 + [2] * 14 + [1] * 12
    assert (np.asarray(Image.open(Path(str(data.train.source.pngs), "p1.png"))) == 255).all()


def test_masks_in_black_and_white(tmp_path: Path, images: Path) -> None:
    folder = labels(tmp_path / "labels", [0, 255])
    with pytest.raises(DataError, match="--ignore-label -1"):
        own(tmp_path, [str(images), str(folder)])
    data = own(tmp_path, [str(images), str(folder)], ignore_label=-1, class_names=["no", "yes"])
    written = np.asarray(Image.open(Path(str(data.train.source.pngs), "p2.png")))
    assert set(np.unique(written)) == {0, 1} and data.ignore_label == 255


def test_faults_that_training_survives_are_warnings(tmp_path: Path, images: Path) -> None:
    content = instances()
    content["annotations"][0]["segmentation"] = [[2, 2, 80, 2, 80, 12, 2, 12]]  # leaves the image
    data = own(tmp_path, [write(tmp_path / "i.json", content), str(images)])
    assert any(note.startswith("warning:") and "leaves the image" in note for note in data.notes)


def test_other_faults_stop_with_the_whole_list(tmp_path: Path, images: Path) -> None:
    content = instances()
    content["annotations"][0]["segmentation"] = "abc"
    content["annotations"][4]["category_id"] = 1
    (images / "p6.png").unlink()
    with pytest.raises(DataError) as error:
        own(tmp_path, [write(tmp_path / "i.json", content), str(images)])
    assert "3 faults" in str(error.value)
    for text in ("found no mask", "category 1 is not one", "p6.png: the image is missing"):
        assert text in str(error.value)


def test_data_without_any_object_are_refused(tmp_path: Path, images: Path) -> None:
    file = write(tmp_path / "i.json", {**instances(), "annotations": []})
    with pytest.raises(DataError, match="no annotated object in the training data"):
        own(tmp_path, [file, str(images)])


def test_validation_has_the_same_classes(tmp_path: Path, images: Path) -> None:
    other = {**instances(), "categories": [{"id": 7, "name": "disc"}, {"id": 30, "name": "square"}]}
    files = [write(tmp_path / "i.json", instances()), write(tmp_path / "v.json", other)]
    with pytest.raises(DataError, match=r"category 7 is 'disc', but 'square' in the training data"):
        own(tmp_path, [files[0], str(images)], [files[1], str(images)])


def test_mistakes_in_what_is_given_say_what_to_do(tmp_path: Path, images: Path) -> None:
    file = write(tmp_path / "pan.json", panoptic(tmp_path / "pngs"))
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        ([str(images)], "one of these forms"),
        ([str(tmp_path / "nothing.json"), str(images)], "no such file"),
        ([file, str(images)], "give the folder of its pngs last"),
        ([str(images), str(empty)], "holds no label files"),
        ([write(tmp_path / "list.json", []), str(images)], "found a json list"),
    ]
    for paths, message in cases:
        with pytest.raises(DataError, match=message):
            detect_format(paths)
    content = panoptic(tmp_path / "pngs")
    del content["categories"][0]["isthing"]
    paths = [write(tmp_path / "pan.json", content), str(images), str(tmp_path / "pngs")]
    with pytest.raises(DataError, match="'grass' has isthing None"):
        own(tmp_path, paths)
