"""Validation data of a custom training are found again by the folder that it left, moved or not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import layouts
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from mask2former.config import ConfigError
from mask2former.custom import build_dataset, open_data
from mask2former.custom.saved import register_validation, save_validation

NAME = "custom_saved_val"


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    for name in (NAME, "custom_saved_train"):
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"source": 3}', '{"source": {"images": 1}, "name": "a"}'])
def test_a_file_of_something_else_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "validation.json").write_text(text)
    with pytest.raises(ConfigError, match=r"validation\.json is not what train-custom writes"):
        register_validation(str(tmp_path / "config.yaml"))


@pytest.mark.parametrize("moved", [False, True], ids=["in place", "moved"])
@pytest.mark.parametrize("layout", ["coco_own", "among_images", "colour_masks"])
def test_registered_again_as_in_the_training(
    layout: str, moved: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare records and metadata; without --val (among_images, colour_masks) a part of the images counts."""
    root, output = tmp_path / "set", tmp_path / "saved"
    getattr(layouts, layout)(root)
    monkeypatch.chdir(tmp_path)
    opened = open_data(["set"], None, Path("saved/data"))  # as typed: paths of this folder
    data = build_dataset(opened.train, opened.val, Path("saved/data"), "saved", opened.class_names)
    data.register()
    records, meta = DatasetCatalog.get(NAME), MetadataCatalog.get(NAME).as_dict()
    save_validation(data, Path("saved"))
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)
    if moved:
        output = Path(shutil.move(output, tmp_path / "elsewhere"))
    monkeypatch.chdir("/")
    register_validation(str(output / "config.yaml"))
    register_validation(str(output / "config.yaml"))  # a second time is none

    found, again = DatasetCatalog.get(NAME), MetadataCatalog.get(NAME).as_dict()
    assert len(found) == data.val.num_images
    for typed, whole in ((records, found), (meta, again)):
        expected = json.dumps(typed, default=str, sort_keys=True)
        for name in ("set", "saved"):
            for end in ("/", '"'):
                expected = expected.replace(f'"{name}{end}', f'"{tmp_path}/{name}{end}')
        assert json.dumps(whole, default=str, sort_keys=True).replace(str(output), f"{tmp_path}/saved") == expected


def test_other_folders_have_none(tmp_path: Path) -> None:
    register_validation("")
    register_validation(str(tmp_path / "config.yaml"))
    assert NAME not in DatasetCatalog
