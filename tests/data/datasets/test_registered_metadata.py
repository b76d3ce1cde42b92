"""Metadata of registered data sets: classes, their numbers, and the tables they come from."""

from __future__ import annotations

import pytest
from detectron2.data import MetadataCatalog
from registered_names import OWN, catalogs_as_at_import  # noqa: F401 (a fixture of all tests here)

from mask2former.data import register_all
from mask2former.data.datasets.categories import load_categories, panoptic_metadata

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
