"""Registration: names, roots, laziness."""

from __future__ import annotations

import ast
import copy
import os
import pickle
import subprocess
import sys

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from registered_names import DETECTRON2S, OWN, catalogs_as_at_import  # noqa: F401 (a fixture of all tests here)

from mask2former.data import register_all
from mask2former.data.datasets import register_at_import

PATH_KEYS = (
    "image_root", "image_dir", "gt_dir", "json_file", "panoptic_json", "panoptic_root", "sem_seg_root", "subset_of",
)  # fmt: skip


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
