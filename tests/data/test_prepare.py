"""The scripts that bring public data sets into this project's layout."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from PIL import Image

from mask2former.data import register_all
from mask2former.evaluation.instance import InstanceEvaluator

sys.path.insert(0, str(Path(__file__).parents[2] / "datasets"))  # as Python does for the scripts themselves


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.fixture
def register() -> Iterator[Callable[[Path], None]]:
    before = MetadataCatalog.get("coco_2017_val").json_file.split("coco")[0]
    yield lambda root: register_all(str(root))
    register_all(before)


def save(array: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


def test_coco_semantic(tmp_path: Path, register: Callable) -> None:
    ids = np.zeros((3, 4, 3), np.uint8)
    ids[0, :, 0], ids[1, :, 1], ids[2, :2, 2] = 1, 1, 1
    save(ids, tmp_path / "coco/panoptic_val2017/7.png")
    save(ids, tmp_path / "coco/val2017/7.jpg")
    segments = [
        {"id": 1, "category_id": 90, "iscrowd": 0},  # toothbrush, the last thing
        {"id": 256, "category_id": 200, "iscrowd": 0},  # rug-merged, the last stuff
        {"id": 65536, "category_id": 1, "iscrowd": 1},  # a crowd of persons
    ]
    content = {
        "images": [{"id": 7, "file_name": "7.jpg", "height": 3, "width": 4}],
        "annotations": [{"image_id": 7, "file_name": "7.png", "segments_info": segments}],
    }
    (tmp_path / "coco/annotations").mkdir()
    (tmp_path / "coco/annotations/panoptic_val2017.json").write_text(json.dumps(content))
    script("prepare_coco_semantic").main(["--root", str(tmp_path), "--splits", "val", "--workers", "1"])

    register(tmp_path)
    (record,) = DatasetCatalog.get("coco_2017_val_panoptic_with_sem_seg")
    names = MetadataCatalog.get("coco_2017_val_panoptic_with_sem_seg").stuff_classes
    labels = np.asarray(Image.open(record["sem_seg_file_name"]))
    assert [names[row[0]] for row in labels] == ["toothbrush", "rug-merged", "person"]
    assert (labels[:2] == labels[:2, :1]).all() and labels[2].tolist() == [0, 0, 255, 255]


def test_ade20k(tmp_path: Path, register: Callable) -> None:
    for split in ("training", "validation"):
        save([[0, 1], [150, 2]], tmp_path / f"ADEChallengeData2016/annotations/{split}/a.png")
        save(np.zeros((2, 2, 3)), tmp_path / f"ADEChallengeData2016/images/{split}/a.jpg")
    script("prepare_ade20k_sem_seg").main(["--root", str(tmp_path)])
    register(tmp_path)
    for name in ("ade20k_sem_seg_train", "ade20k_sem_seg_val"):
        (record,) = DatasetCatalog.get(name)
        assert np.asarray(Image.open(record["sem_seg_file_name"])).tolist() == [[255, 0], [149, 1]]


def test_ade20k_files_of_something_else(tmp_path: Path) -> None:
    module = script("prepare_ade20k_sem_seg")
    with pytest.raises(SystemExit, match="holds no png"):
        module.main(["--root", str(tmp_path)])
    save([[0, 151]], tmp_path / "ADEChallengeData2016/annotations/training/wrong.png")
    with pytest.raises(SystemExit, match=r"wrong\.png.*151"):
        module.main(["--root", str(tmp_path)])


def test_ade20k_panoptic_and_instances(tmp_path: Path, register: Callable, make_mapper: Callable) -> None:
    scene = np.array([[1, 1, 1, 3], [8, 8, 8, 8], [13, 13, 0, 1]], np.uint8)  # wall, sky, bed, person, other
    objects = np.zeros((3, 4, 3), np.uint8)
    objects[1, :2] = (1, 1, 9)  # the first bed
    objects[1, 2:] = (1, 2, 9)  # the second
    objects[2, 0] = (4, 1, 9)  # a person; the pixel beside it is a person and no instance
    root = tmp_path / "ADEChallengeData2016"
    for part in ("training", "validation"):
        save(np.zeros((3, 4, 3)), root / f"images/{part}/a.jpg")
        save(scene, root / f"annotations/{part}/a.png")
        save(objects, root / f"annotations_instance/{part}/a.png")
    script("prepare_ade20k_sem_seg").main(["--root", str(tmp_path)])
    script("prepare_ade20k_pan_seg").main(["--root", str(tmp_path)])

    register(tmp_path)
    for split in ("train", "val"):
        (panoptic,) = DatasetCatalog.get(f"ade20k_panoptic_{split}")
        (instance,) = DatasetCatalog.get(f"ade20k_instance_{split}")
        assert panoptic["image_id"] == instance["image_id"] == "a"
        names = MetadataCatalog.get(f"ade20k_panoptic_{split}").stuff_classes
        found = [(names[s["category_id"]], s["isthing"], s["area"]) for s in panoptic["segments_info"]]
        assert found == [("wall", False, 4), ("sky", False, 1), ("bed", True, 2), ("bed", True, 2), ("person", True, 1)]
        assert [s["bbox"] for s in panoptic["segments_info"]][2:] == [[0, 1, 2, 1], [2, 1, 2, 1], [0, 2, 1, 1]]
        inputs = {"MIN_SIZE_TRAIN": (3,)}
        everything = make_mapper("mask_former_panoptic", 150, **inputs)(panoptic)["instances"]
        things = make_mapper("mask_former_instance", 100, **inputs)(instance)["instances"]
        words = MetadataCatalog.get(f"ade20k_instance_{split}").thing_classes
        assert [words[number] for number in things.gt_classes] == ["bed", "bed", "person"]
        assert (everything.gt_masks.tensor[2:] == things.gt_masks.tensor).all()
        assert np.array_equal(everything.gt_masks.tensor.any(dim=0), np.isin(scene, (0, 13)) <= (objects[..., 0] > 0))


def test_ade20k_panoptic_evaluation_of_the_truth(tmp_path: Path, register: Callable) -> None:
    """Ids of images and categories agree between the instance file, the panoptic file and the metadata."""
    root = tmp_path / "ADEChallengeData2016"
    objects = np.zeros((40, 40, 3), np.uint8)
    objects[5:25, 5:25] = (4, 1, 0)
    save(np.zeros((40, 40, 3)), root / "images/validation/a.jpg")
    save(np.where(objects[..., 0], 13, 1), root / "annotations/validation/a.png")
    save(objects, root / "annotations_instance/validation/a.png")
    script("prepare_ade20k_pan_seg").main(["--root", str(tmp_path), "--splits", "val"])
    register(tmp_path)
    (record,) = DatasetCatalog.get("ade20k_panoptic_val")
    evaluator = InstanceEvaluator("ade20k_panoptic_val", str(tmp_path / "out"))
    evaluator.reset()
    truth = Instances((40, 40))
    truth.pred_masks = torch.from_numpy(objects[None, ..., 0] > 0)
    truth.pred_boxes = Boxes(torch.tensor([[5.0, 5.0, 25.0, 25.0]]))
    truth.pred_classes = torch.tensor([MetadataCatalog.get("ade20k_panoptic_val").stuff_classes.index("person")])
    truth.scores = torch.ones(1)
    evaluator.process([record], [{"instances": truth}])
    scores = evaluator.evaluate()
    assert scores["segm"]["AP"] == pytest.approx(100) and scores["segm"]["AP-person"] == pytest.approx(100)


def test_ade20k_panoptic_files_of_something_else(tmp_path: Path) -> None:
    module = script("prepare_ade20k_pan_seg")
    with pytest.raises(SystemExit, match="holds no png"):
        module.main(["--root", str(tmp_path)])
    root = tmp_path / "ADEChallengeData2016"
    save(np.zeros((2, 2, 3)), root / "images/training/a.jpg")
    save(np.zeros((2, 2)), root / "annotations/training/a.png")
    save(np.full((2, 2, 3), 101), root / "annotations_instance/training/a.png")
    with pytest.raises(SystemExit, match=r"annotations_instance.*a\.png.*red at most 100"):
        module.main(["--root", str(tmp_path)])
    save(np.zeros((3, 2, 3)), root / "annotations_instance/training/a.png")
    with pytest.raises(SystemExit, match=r"differ in size"):
        module.main(["--root", str(tmp_path)])


def save_stuff(folder: Path, name: str, labels: Any) -> None:
    """An image of COCO-Stuff-10k and its annotation."""
    labels = np.asarray(labels, np.uint8)
    save(np.zeros((*labels.shape, 3)), folder / f"images/{name}.jpg")
    (folder / "annotations").mkdir(exist_ok=True)
    scipy.io.savemat(folder / f"annotations/{name}.mat", {"S": labels, "captions": "none"})


@pytest.mark.parametrize("workers", [1, 2])
def test_coco_stuff_10k(tmp_path: Path, register: Callable, workers: int) -> None:
    folder = tmp_path / "coco/coco_stuff_10k"
    (folder / "imageLists").mkdir(parents=True)
    for split in ("train", "test"):
        save_stuff(folder, f"of_{split}", [[0, 1, 90], [12, 92, 182]])  # 12: COCO's, and no class of this set
        (folder / f"imageLists/{split}.txt").write_text(f"of_{split}\n")
    script("prepare_coco_stuff_10k").main(["--root", str(tmp_path), "--workers", str(workers)])
    register(tmp_path)
    for split in ("train", "test"):
        (record,) = DatasetCatalog.get(f"coco_2017_{split}_stuff_10k_sem_seg")
        assert record["image_id"] == f"of_{split}"
        labels = np.asarray(Image.open(record["sem_seg_file_name"]))
        assert labels.dtype == np.uint8 and labels.tolist() == [[255, 0, 79], [255, 80, 170]]
        names = MetadataCatalog.get(f"coco_2017_{split}_stuff_10k_sem_seg").stuff_classes
        assert [names[label] for label in labels[labels < 255]] == ["person", "toothbrush", "banner", "wood"]


def test_coco_stuff_10k_files_of_something_else(tmp_path: Path) -> None:
    module, folder = script("prepare_coco_stuff_10k"), tmp_path / "coco/coco_stuff_10k"
    arguments = ["--root", str(tmp_path), "--workers", "1"]
    with pytest.raises(SystemExit, match=r"train\.txt is missing"):
        module.main(arguments)
    (folder / "imageLists").mkdir(parents=True)
    (folder / "imageLists/train.txt").write_text("a")
    save_stuff(folder, "a", [[0, 183]])
    with pytest.raises(SystemExit, match=r"a\.mat: found uint8 .* up to 183"):
        module.main(arguments)
    scipy.io.savemat(folder / "annotations/a.mat", {"T": [[1]]})
    with pytest.raises(SystemExit, match=r"a\.mat: found no S"):
        module.main(arguments)
    (folder / "annotations/a.mat").write_bytes(b"nothing of the kind" * 20)
    with pytest.raises(SystemExit, match=r"a\.mat: not a MATLAB file"):
        module.main(arguments)
    save_stuff(folder, "a", [[0, 1]])
    save(np.zeros((2, 2, 3)), folder / "images/a.jpg")
    with pytest.raises(SystemExit, match=r"a\.jpg: its size \(height, width\) is \(2, 2\)"):
        module.main(arguments)
    (folder / "images/a.jpg").unlink()
    with pytest.raises(SystemExit, match=r"a\.jpg"):
        module.main(arguments)


def save_context(folder: Path, name: str, labels: Any) -> None:
    """An image of PASCAL-Context and its label map."""
    labels = np.asarray(labels, np.uint16)
    save(np.zeros((*labels.shape, 3)), folder / f"JPEGImages/{name}.jpg")
    (folder / "trainval").mkdir(exist_ok=True)
    scipy.io.savemat(folder / f"trainval/{name}.mat", {"LabelMap": labels})


@pytest.mark.parametrize("workers", [1, 2])
def test_pascal_context(tmp_path: Path, register: Callable, workers: int) -> None:
    folder = tmp_path / "VOCdevkit/VOC2010"
    (folder / "ImageSets/Main").mkdir(parents=True)
    for split in ("train", "val"):
        save_context(folder, f"of_{split}", [[0, 2, 9], [459, 458, 1]])  # 1 and 459: not among the 59
        (folder / f"ImageSets/Main/{split}.txt").write_text(f"of_{split}\n")
    script("prepare_pascal_context").main(["--root", str(tmp_path), "--workers", str(workers)])
    register(tmp_path)
    expected = {59: [[255, 0, 1], [255, 58, 255]], 60: [[0, 1, 2], [0, 59, 0]]}
    for split in ("train", "val"):
        for count, wanted in expected.items():
            name = f"pascal_context_{count}_sem_seg_{split}"
            (record,) = DatasetCatalog.get(name)
            assert record["image_id"] == f"of_{split}"
            labels = np.asarray(Image.open(record["sem_seg_file_name"]))
            assert labels.dtype == np.uint8 and labels.tolist() == wanted
            names = MetadataCatalog.get(name).stuff_classes
            named = [names[label] if label < 255 else "background" for label in labels.flatten()]
            assert named == ["background", "aeroplane", "bag", "background", "wood", "background"]


def test_pascal_context_files_of_something_else(tmp_path: Path) -> None:
    module, folder = script("prepare_pascal_context"), tmp_path / "VOCdevkit/VOC2010"
    arguments = ["--root", str(tmp_path), "--workers", "1"]
    with pytest.raises(SystemExit, match=r"train\.txt is missing"):
        module.main(arguments)
    (folder / "ImageSets/Main").mkdir(parents=True)
    (folder / "ImageSets/Main/train.txt").write_text("a")
    save_context(folder, "a", [[0, 460]])
    with pytest.raises(SystemExit, match=r"a\.mat: found uint16 .* up to 460"):
        module.main(arguments)
    scipy.io.savemat(folder / "trainval/a.mat", {"T": [[1]]})
    with pytest.raises(SystemExit, match=r"a\.mat: found no LabelMap"):
        module.main(arguments)
    (folder / "trainval/a.mat").write_bytes(b"nothing of the kind" * 20)
    with pytest.raises(SystemExit, match=r"a\.mat: not a MATLAB file"):
        module.main(arguments)
    save_context(folder, "a", [[0, 1]])
    save(np.zeros((2, 2, 3)), folder / "JPEGImages/a.jpg")
    with pytest.raises(SystemExit, match=r"a\.jpg: its size \(height, width\) is \(2, 2\)"):
        module.main(arguments)


def save_ade20k_full(folder: Path, numbers: np.ndarray, image: np.ndarray) -> None:
    """One image with the colours of its segmentation: the object's number, and the instance in blue."""
    colours = np.stack([numbers // 256 * 10, numbers % 256, np.arange(numbers.size).reshape(numbers.shape) % 7], -1)
    save(image, folder / "a.jpg")
    save(colours, folder / "a_seg.png")


def test_ade20k_full(tmp_path: Path, register: Callable) -> None:
    numbers = np.array([[0, 2978], [3148, 1], [312, 312]])  # none, wall, adding machine, none of the 847, building
    for split in ("training", "validation"):
        place = tmp_path / f"ADE20K_2021_17_01/images/ADE/{split}/urban/street"
        save_ade20k_full(place, numbers, np.full((3, 2, 3), 200))
        save(np.zeros((3, 2, 3)), place / "a/instance_000_a.png")  # parts and instances are not asked for
    script("prepare_ade20k_full_sem_seg").main(["--root", str(tmp_path), "--workers", "1"])
    register(tmp_path)
    for split in ("train", "val"):
        (record,) = DatasetCatalog.get(f"ade20k_full_sem_seg_{split}")
        labels = np.asarray(Image.open(record["sem_seg_file_name"]))
        assert labels.dtype == np.uint16 and labels.tolist() == [[65535, 0], [846, 65535], [1, 1]]
        image = np.asarray(Image.open(record["file_name"]))
        assert image.shape == (3, 2, 3) and abs(image.astype(int) - 200).max() <= 2


def test_ade20k_full_large_images_are_reduced(tmp_path: Path) -> None:
    module, folder = script("prepare_ade20k_full_sem_seg"), tmp_path / "from"
    assert module.reduced((512, 4000)) == (512, 4000) and module.reduced((1024, 1536)) == (512, 768)
    numbers = np.full((1024, 1536), 2978)
    numbers[:, 768:] = 312
    image = np.broadcast_to((numbers == 312)[..., None] * 200, (1024, 1536, 3))
    save_ade20k_full(folder, numbers, image)
    module.convert(folder / "a_seg.png", tmp_path, tmp_path)
    labels, small = (np.asarray(Image.open(tmp_path / name)) for name in ("a.tif", "a.jpg"))
    assert labels.shape == small.shape[:2] == (512, 768)
    assert (labels == (np.arange(768) >= 384)).all()
    assert ((small[..., 0] > 100) == labels).all()


def test_ade20k_full_files_of_something_else(tmp_path: Path) -> None:
    module, arguments = script("prepare_ade20k_full_sem_seg"), ["--root", str(tmp_path), "--workers", "1"]
    with pytest.raises(SystemExit, match="holds no png"):
        module.main(arguments)
    folder = tmp_path / "ADE20K_2021_17_01/images/ADE/training"
    save_ade20k_full(folder, np.zeros((2, 2), int), np.zeros((2, 3, 3)))
    with pytest.raises(SystemExit, match=r"a_seg\.png: found .*\(2, 2\).*\(3, 2\)"):
        module.main(arguments)


def test_camvid(tmp_path: Path, register: Callable, make_mapper: Callable) -> None:
    for split in ("train", "val"):
        save(np.zeros((2, 3, 3)), tmp_path / f"tutorial/{split}/a.png")
        save([[0, 10, 11], [1, 1, 1]], tmp_path / f"tutorial/{split}annot/a.png")
    script("prepare_camvid").main(["--source", str(tmp_path / "tutorial"), "--root", str(tmp_path / "out")])
    register(tmp_path / "out")
    for name in ("camvid_train_sem_seg", "camvid_val_sem_seg"):
        (record,) = DatasetCatalog.get(name)
        instances = make_mapper("mask_former_semantic", 11, MIN_SIZE_TRAIN=(2,))(record)["instances"]
        assert instances.gt_classes.tolist() == [0, 1, 10]
        assert not instances.gt_masks.tensor[:, 0, 2].any()


def test_nuclei(tmp_path: Path, register: Callable, make_mapper: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    module = script("prepare_nuclei")
    of_split: dict[str, list[str]] = {"train": [], "val": []}
    for i in range(40):
        of_split[module.split_of(f"image{i}")].append(f"image{i}")
    assert 0 < len(of_split["val"]) < 15
    chosen = [*of_split["train"][:2], *of_split["val"][:2]]
    for i, name in enumerate(chosen):
        grey = i % 2 == 0  # one of each split belongs to the subset
        image = np.full((256, 256, 3), 30)
        image[..., 0] += 0 if grey else 90
        save(image, tmp_path / f"raw/{name}/images/{name}.png")
        for j, (y, x) in enumerate(((10, 10), (20, 20), (200, 100))):  # the first two overlap
            mask = np.zeros((256, 256))
            mask[y : y + 15, x : x + 15] = 255
            save(mask, tmp_path / f"raw/{name}/masks/{j}.png")
    module.main(["--source", str(tmp_path / "raw"), "--root", str(tmp_path)])

    register(tmp_path)
    for split in ("train", "val"):
        for subset, count in (("", 2), ("_fluo256", 1)):
            instances = DatasetCatalog.get(f"nuclei_{split}_instance{subset}")
            panoptic = DatasetCatalog.get(f"nuclei_{split}_panoptic{subset}")
            assert len(instances) == len(panoptic) == count
            assert [r["file_name"] for r in instances] == [r["file_name"] for r in panoptic]
            inputs = {"MIN_SIZE_TRAIN": (256,)}
            nuclei = make_mapper("mask_former_instance", 1, **inputs)(instances[0])["instances"]
            everything = make_mapper("mask_former_panoptic", 2, **inputs)(panoptic[0])["instances"]
            assert nuclei.gt_masks.tensor.sum(dim=(1, 2)).tolist() == [225, 225 - 25, 225]
            assert everything.gt_classes.tolist() == [1, 0, 0, 0]
            assert (everything.gt_masks.tensor[1:] == nuclei.gt_masks.tensor).all()
            assert everything.gt_masks.tensor.sum(dim=0).eq(1).all()
