"""Registration: names, metadata, roots, laziness."""

from __future__ import annotations

import json
import os
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former.data import datasets, register_all
from mask2former.data.categories import load_categories, panoptic_metadata

SPLITS = ("train", "val")
OWN = [
    "coco_sample_panoptic",
    *(f"coco_2017_{split}_panoptic_with_sem_seg" for split in SPLITS),
    *(f"quickstart_{split}_{task}" for split in SPLITS for task in ("panoptic", "instance", "sem_seg")),
    *(f"camvid_{split}_sem_seg" for split in SPLITS),
    *(f"nuclei_{split}_{task}" for split in SPLITS for task in ("panoptic", "instance")),
    *(f"nuclei_{split}_{task}_fluo256" for split in SPLITS for task in ("panoptic", "instance")),
]  # fmt: skip
DETECTRON2S = [
    f"{name}{split}{end}"
    for split in SPLITS
    for name, end in (
        ("coco_2017_", ""),
        ("coco_2017_", "_panoptic"),
        ("ade20k_sem_seg_", ""),
        ("cityscapes_fine_panoptic_", ""),
        ("cityscapes_fine_instance_seg_", ""),
        ("cityscapes_fine_sem_seg_", ""),
    )
]
PATH_KEYS = (
    "image_root", "image_dir", "gt_dir", "json_file", "panoptic_json", "panoptic_root", "sem_seg_root", "subset_of",
)  # fmt: skip


@pytest.fixture(autouse=True)
def catalogs_as_at_import() -> Iterator[None]:
    """Each test starts with what Detectron2 registers itself, and leaves what it found."""
    saved = dict(DatasetCatalog.data), dict(MetadataCatalog.data), set(datasets._registered)
    for name in OWN:
        DatasetCatalog.data.pop(name, None)
        MetadataCatalog.data.pop(name, None)
    datasets._registered.clear()
    yield
    DatasetCatalog.data, MetadataCatalog.data = saved[0], saved[1]
    datasets._registered.clear()
    datasets._registered.update(saved[2])


def test_every_name_is_registered_without_reading_a_file() -> None:
    register_all("/no/such/folder")
    assert set(OWN + DETECTRON2S) <= set(DatasetCatalog.list())
    for name in OWN + DETECTRON2S:
        metadata = MetadataCatalog.get(name)
        assert metadata.name == name and metadata.evaluator_type


@pytest.mark.parametrize("name", OWN + DETECTRON2S)
def test_all_paths_are_below_the_root(name: str) -> None:
    register_all("/some/root")
    metadata = MetadataCatalog.get(name).as_dict()
    paths = {
        key: metadata[key]
        for key in PATH_KEYS
        if key in metadata and not ("fluo256" in name and key == "panoptic_json")
    }
    assert paths
    assert all(path.startswith("/some/root" + os.sep) for path in paths.values()), paths


def test_repeating_changes_nothing() -> None:
    register_all("/some/root")
    before = dict(DatasetCatalog.data), {name: MetadataCatalog.get(name) for name in OWN + DETECTRON2S}
    register_all("/some/root")
    register_all("/some/root/")
    assert dict(DatasetCatalog.data) == before[0]
    assert all(MetadataCatalog.get(name) is metadata for name, metadata in before[1].items())


def test_another_root_moves_everything_and_back() -> None:
    register_all("/one")
    first = {name: MetadataCatalog.get(name).as_dict() for name in OWN + DETECTRON2S}
    register_all("/two")
    assert MetadataCatalog.get("camvid_val_sem_seg").image_root.startswith("/two")
    assert MetadataCatalog.get("coco_2017_val").json_file.startswith("/two")
    register_all("/one")
    assert {name: MetadataCatalog.get(name).as_dict() for name in OWN + DETECTRON2S} == first


def test_detectron2s_own_stay_where_the_root_is_theirs() -> None:
    root = MetadataCatalog.get("coco_2017_val").json_file.split("coco")[0]
    before = {name: (DatasetCatalog[name], MetadataCatalog.get(name)) for name in DETECTRON2S}
    register_all(root)
    for name, (loader, metadata) in before.items():
        assert DatasetCatalog[name] is loader and MetadataCatalog.get(name) is metadata


def test_detectron2s_own_keep_their_facts_when_moved() -> None:
    before = {name: MetadataCatalog.get(name).as_dict() for name in DETECTRON2S}
    register_all("/elsewhere")
    for name, facts in before.items():
        moved = MetadataCatalog.get(name).as_dict()
        assert moved.keys() == facts.keys()
        assert {k: v for k, v in moved.items() if k not in PATH_KEYS} == {
            k: v for k, v in facts.items() if k not in PATH_KEYS
        }


def test_a_name_taken_by_somebody_else_is_an_error() -> None:
    DatasetCatalog.register("camvid_val_sem_seg", list)
    MetadataCatalog.get("camvid_val_sem_seg").set(image_root="/mine")
    with pytest.raises(ValueError, match="camvid_val_sem_seg"):
        register_all("/some/root")


def test_importing_registers_nothing() -> None:
    before = dict(DatasetCatalog.data)
    runpy.run_module("mask2former.data.datasets")
    assert dict(DatasetCatalog.data) == before


@pytest.mark.parametrize("name", [name for name in OWN if "panoptic" in name])
def test_panoptic_metadata_suits_all_three_evaluators(name: str) -> None:
    register_all("/some/root")
    metadata = MetadataCatalog.get(name)
    things, everything = metadata.thing_dataset_id_to_contiguous_id, metadata.stuff_dataset_id_to_contiguous_id
    assert sorted(things.values()) == list(range(len(things))) == list(range(len(metadata.thing_classes)))
    assert sorted(everything.values()) == list(range(len(everything))) == list(range(len(metadata.stuff_classes)))
    assert things.items() <= everything.items()
    assert metadata.stuff_classes[: len(things)] == metadata.thing_classes
    assert len(metadata.stuff_colors) == len(metadata.stuff_classes)
    assert metadata.evaluator_type == "coco_panoptic_seg" and metadata.ignore_label == 255


def test_things_come_first_whatever_the_order_of_the_table() -> None:
    table = [
        {"id": 4, "name": "sky", "isthing": 0, "color": [0, 0, 9]},
        {"id": 2, "name": "dog", "isthing": 1, "color": [9, 0, 0]},
        {"id": 1, "name": "cat", "isthing": 1, "color": [0, 9, 0]},
    ]
    metadata = panoptic_metadata(table)
    assert metadata["thing_classes"] == ["dog", "cat"]
    assert metadata["stuff_classes"] == ["dog", "cat", "sky"]
    assert metadata["stuff_dataset_id_to_contiguous_id"] == {2: 0, 1: 1, 4: 2}


@pytest.mark.parametrize(
    ("name", "count", "things"), [("quickstart", 12, 8), ("camvid", 11, 0), ("nuclei", 2, 1), ("coco", 133, 80)]
)
def test_category_tables(name: str, count: int, things: int) -> None:
    table = load_categories(name)
    assert len(table) == len({entry["id"] for entry in table}) == len({entry["name"] for entry in table}) == count
    assert sum(entry["isthing"] for entry in table) == things
    assert all(len(entry["color"]) == 3 and all(0 <= value <= 255 for value in entry["color"]) for entry in table)


@pytest.fixture
def small_root(tmp_path: Path) -> Path:
    """One picture of the quickstart set and two of the nuclei, one of them in the fluo256 subset."""
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[:, 3:, 0] = 1
    picture[:, :3, 0] = 2
    for folder in ("images/val", "panoptic/val", "semantic/val", "annotations"):
        (tmp_path / "quickstart" / folder).mkdir(parents=True)
    Image.fromarray(picture).save(tmp_path / "quickstart/images/val/0.png")
    Image.fromarray(picture).save(tmp_path / "quickstart/panoptic/val/0.png")
    Image.fromarray(picture[..., 0]).save(tmp_path / "quickstart/semantic/val/0.png")
    images = [{"id": 1, "file_name": "0.png", "height": 4, "width": 6}]
    segments = [{"id": 1, "category_id": 9, "iscrowd": 0}, {"id": 2, "category_id": 3, "iscrowd": 0}]
    panoptic = {"images": images, "annotations": [{"image_id": 1, "file_name": "0.png", "segments_info": segments}]}
    (tmp_path / "quickstart/annotations/panoptic_val.json").write_text(json.dumps(panoptic))
    instance = {"id": 1, "image_id": 1, "category_id": 3, "iscrowd": 0, "segmentation": [[0, 0, 3, 0, 3, 4, 0, 4]]}
    (tmp_path / "quickstart/annotations/instances_val.json").write_text(
        json.dumps({"images": images, "annotations": [instance]})
    )

    (tmp_path / "nuclei/annotations").mkdir(parents=True)
    images = [{"id": i, "file_name": f"{i}.png", "height": 4, "width": 6} for i in (1, 2)]
    entries = [{"image_id": i, "file_name": f"{i}.png", "segments_info": []} for i in (1, 2)]
    (tmp_path / "nuclei/annotations/panoptic_val.json").write_text(
        json.dumps({"images": images, "annotations": entries, "categories": []})
    )
    (tmp_path / "nuclei/annotations/instances_val_fluo256.json").write_text(
        json.dumps({"images": images[1:], "annotations": []})
    )
    return tmp_path


def test_the_three_quickstart_views_agree(small_root: Path, make_mapper: Callable) -> None:
    register_all(str(small_root))
    (panoptic,) = DatasetCatalog.get("quickstart_val_panoptic")
    (instance,) = DatasetCatalog.get("quickstart_val_instance")
    (semantic,) = DatasetCatalog.get("quickstart_val_sem_seg")
    assert panoptic["file_name"] == instance["file_name"] == semantic["file_name"]
    assert panoptic["sem_seg_file_name"] == semantic["sem_seg_file_name"]
    assert [(s["category_id"], s["isthing"]) for s in panoptic["segments_info"]] == [(8, False), (2, True)]
    boat = make_mapper("mask_former_instance", 8, MIN_SIZE_TRAIN=(4,))(instance)["instances"]
    both = make_mapper("mask_former_panoptic", 12, MIN_SIZE_TRAIN=(4,))(panoptic)["instances"]
    assert boat.gt_classes.tolist() == [2] and both.gt_classes.tolist() == [8, 2]
    assert (boat.gt_masks.tensor[0] == both.gt_masks.tensor[1]).all()


def test_a_subset_has_its_own_ground_truth(small_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(small_root / "cache"))
    register_all(str(small_root))
    ground_truth = Path(MetadataCatalog.get("nuclei_val_panoptic_fluo256").panoptic_json)
    assert not ground_truth.exists()  # written when the data set is loaded
    assert [record["image_id"] for record in DatasetCatalog.get("nuclei_val_panoptic_fluo256")] == [2]
    content = json.loads(ground_truth.read_text())
    assert (
        [image["id"] for image in content["images"]] == [entry["image_id"] for entry in content["annotations"]] == [2]
    )
    assert small_root in ground_truth.parents
    assert len(list(ground_truth.parent.iterdir())) == 1  # no temporary file is left
    assert len(DatasetCatalog.get("nuclei_val_panoptic")) == 2
