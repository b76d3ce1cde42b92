"""Registration: names, metadata, roots, laziness."""

from __future__ import annotations

import ast
import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former.data import register_all
from mask2former.data.checks import check_dataset
from mask2former.data.datasets import register_at_import
from mask2former.data.datasets.categories import load_categories, panoptic_metadata
from mask2former.data.mapper.annotations import semantic_objects

SPLITS = ("train", "val")
OWN = [
    "coco_sample_panoptic",
    *(f"coco_2017_{split}_panoptic_with_sem_seg" for split in SPLITS),
    *(f"quickstart_{split}_{task}" for split in SPLITS for task in ("panoptic", "instance", "sem_seg")),
    *(f"camvid_{split}_sem_seg" for split in SPLITS),
    *(f"nuclei_{split}_{task}" for split in SPLITS for task in ("panoptic", "instance")),
    *(f"nuclei_{split}_{task}_fluo256" for split in SPLITS for task in ("panoptic", "instance")),
    *(f"ade20k_{task}_{split}" for split in SPLITS for task in ("panoptic", "instance", "full_sem_seg")),
    *(f"mapillary_vistas_{task}_{split}" for split in SPLITS for task in ("panoptic", "sem_seg")),
    *(f"coco_2017_{split}_stuff_10k_sem_seg" for split in ("train", "test")),
    *(f"pascal_context_{count}_sem_seg_{split}" for count in (59, 60) for split in SPLITS),
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
    saved = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    for name in OWN:
        DatasetCatalog.data.pop(name, None)
        MetadataCatalog.data.pop(name, None)
    yield
    DatasetCatalog.data, MetadataCatalog.data = saved


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


def test_an_import_leaves_what_a_user_has_registered(caplog: pytest.LogCaptureFixture) -> None:
    DatasetCatalog.register("camvid_val_sem_seg", list)
    MetadataCatalog.get("camvid_val_sem_seg").set(image_root="/mine")
    register_at_import()
    assert DatasetCatalog["camvid_val_sem_seg"] is list
    assert MetadataCatalog.get("camvid_val_sem_seg").as_dict() == {"name": "camvid_val_sem_seg", "image_root": "/mine"}
    assert "left as they are: camvid_val_sem_seg." in caplog.text
    assert set(OWN) <= set(DatasetCatalog.list())
    register_at_import()  # again, without harm
    assert DatasetCatalog["camvid_val_sem_seg"] is list


IMPORT = """
import sys
opened = []
sys.addaudithook(lambda event, values: event == "open" and opened.append(str(values[0])))
import {first}
import mask2former
from detectron2.data import DatasetCatalog, MetadataCatalog
tables = [file for file in opened if file.endswith(".json")]
assert not tables, tables
assert MetadataCatalog.get("ade20k_full_sem_seg_val").image_root.startswith("/elsewhere/ADE20K")
before = len(opened)
assert len(MetadataCatalog.get("ade20k_full_sem_seg_val").stuff_classes) == 847
tables = [file for file in opened[before:] if file.endswith(".json")]
assert len(tables) == 1 and tables[0].endswith("ade20k_full.json"), tables
print(sorted(DatasetCatalog.list()))
"""


@pytest.mark.parametrize("first", ["sys", "detectron2.config"])
def test_importing_registers_below_the_variable_and_reads_no_table(first: str) -> None:
    environment = {**os.environ, "DETECTRON2_DATASETS": "/elsewhere"}
    command = [sys.executable, "-c", IMPORT.format(first=first)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert set(OWN + DETECTRON2S) <= set(ast.literal_eval(done.stdout.splitlines()[-1]))


def test_metadata_is_whole_whatever_is_asked_first() -> None:
    register_all("/some/root")
    name = "ade20k_panoptic_val"
    whole = MetadataCatalog.get(name).as_dict()
    questions = (
        lambda metadata: metadata.thing_classes,
        lambda metadata: metadata.get("thing_classes"),
        lambda metadata: metadata.as_dict()["thing_classes"],
        lambda metadata: copy.deepcopy(metadata).thing_classes,
        lambda metadata: pickle.loads(pickle.dumps(metadata)).thing_classes,
        lambda metadata: metadata.set(thing_classes=whole["thing_classes"]).thing_classes,
    )
    for question in questions:
        MetadataCatalog.remove(name)
        DatasetCatalog.remove(name)
        register_all("/some/root")
        assert question(MetadataCatalog.get(name)) == whole["thing_classes"]
        assert MetadataCatalog.get(name).as_dict() == whole
        with pytest.raises(AttributeError, match="'nonsense' does not exist in the metadata of dataset"):
            _ = MetadataCatalog.get(name).nonsense
        with pytest.raises(AssertionError, match="cannot be set"):
            MetadataCatalog.get(name).thing_classes = ["another"]


IN_TABLE_ORDER = ("ade20k", "mapillary")


@pytest.mark.parametrize("name", [name for name in OWN if "panoptic" in name and not name.startswith(IN_TABLE_ORDER)])
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
    ("name", "kind", "ignored", "bed_or_bird"),
    [
        ("ade20k_panoptic_val", "ade20k_panoptic_seg", 255, (7, "bed")),
        ("mapillary_vistas_panoptic_val", "mapillary_vistas_panoptic_seg", 65, (0, "Bird")),
    ],
)
def test_published_weights_find_the_numbers_they_learnt(
    name: str, kind: str, ignored: int, bed_or_bird: tuple[int, str]
) -> None:
    register_all("/some/root")
    metadata = MetadataCatalog.get(name)
    number, word = bed_or_bird
    table = load_categories("ade20k_panoptic" if "ade20k" in name else "mapillary_vistas")
    assert metadata.stuff_dataset_id_to_contiguous_id == {entry["id"]: i for i, entry in enumerate(table)}
    things = metadata.thing_dataset_id_to_contiguous_id
    assert things == {entry["id"]: i for i, entry in enumerate(table) if entry["isthing"]}
    assert metadata.thing_classes == metadata.stuff_classes == [entry["name"] for entry in table]
    assert number in things.values() and metadata.thing_classes[number] == word
    assert (metadata.evaluator_type, metadata.ignore_label) == (kind, ignored)


def test_ade20ks_instances_are_the_things_of_its_panoptic_set() -> None:
    register_all("/some/root")
    instance, panoptic = (MetadataCatalog.get(f"ade20k_{task}_val") for task in ("instance", "panoptic"))
    assert instance.thing_dataset_id_to_contiguous_id.keys() == panoptic.thing_dataset_id_to_contiguous_id.keys()
    assert len(instance.thing_classes) == 100
    assert instance.json_file == panoptic.json_file


@pytest.mark.parametrize(
    ("name", "classes", "ignored"),
    [
        ("ade20k_full_sem_seg_val", 847, 65535),
        ("mapillary_vistas_sem_seg_val", 65, 65),
        ("coco_2017_test_stuff_10k_sem_seg", 171, 255),
        ("pascal_context_59_sem_seg_val", 59, 255),
        ("pascal_context_60_sem_seg_val", 60, 255),
    ],
)
def test_semantic_sets_of_the_published_system(name: str, classes: int, ignored: int) -> None:
    register_all("/some/root")
    metadata = MetadataCatalog.get(name)
    assert len(metadata.stuff_classes) == classes
    assert (metadata.evaluator_type, metadata.ignore_label) == ("sem_seg", ignored)


@pytest.mark.parametrize(
    ("name", "count", "things"),
    [
        ("ade20k_panoptic", 150, 100),
        ("ade20k_instance", 100, 100),
        ("ade20k_full", 847, None),
        ("coco_stuff_10k", 171, 80),
        ("mapillary_vistas", 65, 37),
    ],
)
def test_published_category_tables(name: str, count: int, things: int | None) -> None:
    table = load_categories(name)
    assert len(table) == len({entry["id"] for entry in table}) == count
    assert things is None or sum(entry["isthing"] for entry in table) == things
    assert all(len(entry["color"]) == 3 for entry in table if "color" in entry)


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
    """One image of the quickstart set and two of the nuclei, one of them in the fluo256 subset."""
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, 3:, 0] = 1
    image[:, :3, 0] = 2
    for folder in ("images/val", "panoptic/val", "semantic/val", "annotations"):
        (tmp_path / "quickstart" / folder).mkdir(parents=True)
    Image.fromarray(image).save(tmp_path / "quickstart/images/val/0.png")
    Image.fromarray(image).save(tmp_path / "quickstart/panoptic/val/0.png")
    Image.fromarray(image[..., 0]).save(tmp_path / "quickstart/semantic/val/0.png")
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


def test_checks_follow_the_metadata(small_root: Path) -> None:
    register_all(str(small_root))
    reports = check_dataset("quickstart_val_panoptic")
    assert [(task, report.faults) for task, report in reports.items()] == [
        ("panoptic", []), ("instance", []), ("semantic", []),
    ]  # fmt: skip
    assert {name: tally.pixels for name, tally in reports["panoptic"].classes.items()} == {"boat": 12, "sky": 12}
    assert reports["instance"].classes["boat"].pixels == 12
    assert list(check_dataset("quickstart_val_sem_seg")) == ["semantic"]
    (small_root / "quickstart/images/val/0.png").unlink()
    assert all(report.faults for report in check_dataset("quickstart_val_panoptic").values())


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


def test_mapillary_vistas(tmp_path: Path, make_mapper: Callable) -> None:
    """One image: a bird (thing), a curb (stuff), and a pixel of no class."""
    folder = tmp_path / "mapillary_vistas/validation"
    for part in ("images", "labels", "panoptic"):
        (folder / part).mkdir(parents=True)
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(folder / "images/a.jpg")
    Image.fromarray(np.array([[0, 0, 2], [2, 2, 65]], np.uint8)).save(folder / "labels/a.png")
    ids = np.zeros((2, 3, 3), np.uint8)
    ids[..., 0] = [[7, 7, 9], [9, 9, 0]]
    Image.fromarray(ids).save(folder / "panoptic/a.png")
    segments = [{"id": 7, "category_id": 1, "iscrowd": 0}, {"id": 9, "category_id": 3, "iscrowd": 0}]
    content = {
        "images": [{"id": "a", "file_name": "a.jpg", "height": 2, "width": 3}],
        "annotations": [{"image_id": "a", "file_name": "a.png", "segments_info": segments}],
    }
    (folder / "panoptic/panoptic_2018.json").write_text(json.dumps(content))
    register_all(str(tmp_path))
    (panoptic,) = DatasetCatalog.get("mapillary_vistas_panoptic_val")
    (semantic,) = DatasetCatalog.get("mapillary_vistas_sem_seg_val")
    assert panoptic["sem_seg_file_name"] == semantic["sem_seg_file_name"]
    assert [(s["category_id"], s["isthing"]) for s in panoptic["segments_info"]] == [(0, True), (2, False)]
    both = make_mapper("mask_former_panoptic", 65, MIN_SIZE_TRAIN=(2,))(panoptic)["instances"]
    assert both.gt_classes.tolist() == [0, 2] and not both.gt_masks.tensor[:, 1, 2].any()


def test_sixteen_bit_labels(tmp_path: Path) -> None:
    folder = tmp_path / "ADE20K_2021_17_01"
    for part in ("images_detectron2", "annotations_detectron2"):
        (folder / part / "validation").mkdir(parents=True)
    Image.fromarray(np.zeros((1, 3, 3), np.uint8)).save(folder / "images_detectron2/validation/a.jpg")
    labels = np.array([[0, 846, 65535]], np.uint16)
    Image.fromarray(labels).save(folder / "annotations_detectron2/validation/a.tif")
    register_all(str(tmp_path))
    (record,) = DatasetCatalog.get("ade20k_full_sem_seg_val")
    objects = semantic_objects(record, (1, 3), 847, MetadataCatalog.get("ade20k_full_sem_seg_val").ignore_label)
    assert objects.classes.tolist() == [0, 846]
