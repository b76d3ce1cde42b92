"""Models by name, folder, configuration and weights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from PIL import Image

import mask2former
from mask2former import Predictor, zoo
from mask2former.config import ConfigError, load_config
from mask2former.download import DownloadError
from mask2former.predictor import Result
from mask2former.predictor.resolve_model import weights_of

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "quickstart" / "panoptic.yaml"
EVERYTHING = 0.01  # a threshold that random weights pass


def same(one: Result, other: Result) -> bool:
    return np.array_equal(one.panoptic, other.panoptic) and np.array_equal(one.semantic, other.semantic)


def test_a_folder_is_as_good_as_its_configuration_and_weights(
    folder: Path, predictor: Predictor, image: np.ndarray, small_options: list[str]
) -> None:
    weights = str(folder / "model_final.pth")
    result = predictor(image)
    assert result.segments, "random weights find something at this threshold"
    for other in (
        Predictor(CONFIG, weights, opts=small_options, threshold=EVERYTHING),
        Predictor(load_config(str(CONFIG), [*small_options, "MODEL.WEIGHTS", weights]), threshold=EVERYTHING),
        Predictor(weights, threshold=EVERYTHING),
    ):
        assert same(other(image), result)
    assert predictor.tasks == ("panoptic", "instance", "semantic")
    assert predictor.names[8] == "sky"


def test_home_in_paths(
    folder: Path, predictor: Predictor, image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell replaces ``~``; a Python program and a quoted word do not."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    shutil.copytree(folder, tmp_path / "mine")
    Image.fromarray(image).save(tmp_path / "a.png")
    expected = predictor(image)
    weights = "~/mine/model_final.pth"
    for model in (
        Predictor("~/mine", threshold=EVERYTHING),
        Predictor(Path("~/mine"), threshold=EVERYTHING),
        Predictor(weights, threshold=EVERYTHING),
        Predictor("~/mine/config.yaml", weights, threshold=EVERYTHING),
        Predictor("~/mine", opts=["MODEL.WEIGHTS", weights], threshold=EVERYTHING),
    ):
        assert same(model("~/a.png"), expected)
    assert [result.file_name for result in predictor("~/*.png")] == ["a.png"]
    assert expected.save("~/drawn/a.png") == tmp_path / "drawn" / "a.png"
    assert {file.parent for file in expected.save_masks("~/masks")} == {tmp_path / "masks"}


def test_a_folder_of_hugging_face_is_told_from_one_of_a_training(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"Hugging Face's form.*, '.*model\.safetensors'\)"):
        Predictor(tmp_path)


def test_the_last_checkpoint_is_taken_where_training_did_not_end(folder: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "metadata.json"):
        shutil.copy(folder / name, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"lacks model_final\.pth, and last_checkpoint names no complete"):
        Predictor(tmp_path)
    shutil.copy(folder / "model_final.pth", tmp_path / "model_0000499.pth")
    (tmp_path / "last_checkpoint").write_text("model_0000499.pth")
    assert Predictor(tmp_path).metadata.name == "quickstart_val_panoptic"
    (tmp_path / "last_checkpoint").write_text("../model_0000499.pth")
    with pytest.raises(ValueError, match="leads out of"):
        Predictor(tmp_path)


def test_the_best_weights_go_before_the_final_ones(folder: Path, tmp_path: Path, caplog) -> None:
    """Then come the final ones, and the newest whole checkpoint."""
    for name in ("model_0000499.pth", "model_final.pth", "model_best.pth"):
        shutil.copy(folder / "model_final.pth", tmp_path / name)
        (tmp_path / "last_checkpoint").write_text("model_0000499.pth")
        assert weights_of(tmp_path) == str(tmp_path / name)
    content = (tmp_path / "model_best.pth").read_bytes()
    (tmp_path / "model_best.pth").write_bytes(content[: len(content) // 2])
    assert weights_of(tmp_path) == str(tmp_path / "model_final.pth")
    assert "model_best.pth cannot be used" in caplog.text


def test_classes_come_from_the_file_beside_the_weights(folder: Path, tmp_path: Path, image: np.ndarray) -> None:
    """Of a data set that is not registered: without the file, the error says what is missing."""
    own = "data_of_a_stranger"
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    text = (folder / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("quickstart_val_panoptic", own).replace("quickstart_train", own))
    (tmp_path / "metadata.json").unlink()
    try:
        with pytest.raises(ValueError, match=rf"metadata\.json is not there, and .*{own}"):
            Predictor(tmp_path)
        facts = json.loads((folder / "metadata.json").read_text())
        facts["stuff_classes"] = [f"class {number}" for number in range(12)]
        (tmp_path / "metadata.json").write_text(json.dumps({**facts, "name": own}))
        assert Predictor(tmp_path)(image).names[8] == "class 8"
    finally:
        MetadataCatalog.pop(own, None)


def test_folders_whose_data_sets_have_one_name_are_open_at_once(
    folder: Path, predictor: Predictor, tmp_path: Path, image: np.ndarray
) -> None:
    """Each with classes and things of its own, as own data in folders of the same name have them."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    facts = json.loads((folder / "metadata.json").read_text())
    facts["stuff_classes"] = [f"class {number}" for number in range(12)]
    facts["thing_dataset_id_to_contiguous_id"] = {"7": 0}
    (tmp_path / "metadata.json").write_text(json.dumps(facts))
    other = Predictor(tmp_path, threshold=EVERYTHING)
    assert other.metadata.name == predictor.metadata.name
    assert (other.names[8], predictor.names[8]) == ("class 8", "sky")
    things = [model.post_processing.things for model in (other.model, predictor.model)]
    assert things[0] == {0} and len(things[1]) == 8
    assert other(image).segments[0]["name"].startswith("class")
    assert not MetadataCatalog.get(facts["name"]).stuff_classes[0].startswith("class")


def test_a_published_model_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own configuration and the weights that the zoo names; the download is not tried here."""
    asked: list[str] = []

    def fetch(url: str) -> str:
        asked.append(url)
        raise DownloadError(f"{url}: no network")

    monkeypatch.setattr(zoo, "fetch", fetch)
    for name in ("coco/panoptic/swin_tiny", "coco/panoptic/swin"):
        with pytest.raises(DownloadError, match="no network"):
            Predictor(name)
    assert asked == 2 * [zoo.models()["coco/panoptic/swin"].weights]
    assert all(model.config_file().is_file() for model in zoo.models().values())


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("coco/panoptik/r50", FileNotFoundError, r"no such model.*coco/panoptic/r50"),
        ("no/such/file.yaml", ConfigError, "no such configuration file"),
        (CONFIG, ValueError, r"MODEL\.WEIGHTS is empty"),
    ],
)
def test_models_that_are_not_there(model: str | Path, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Predictor(model)


def test_weights_of_a_backbone_alone_are_refused(folder: Path, tmp_path: Path) -> None:
    state = torch.load(folder / "model_final.pth")["model"]
    backbone = {name: value for name, value in state.items() if name.startswith("backbone.")}
    torch.save({"model": backbone}, tmp_path / "backbone.pth")
    with pytest.raises(ValueError, match=r"not the weights of this model.*sem_seg_head"):
        Predictor(folder, str(tmp_path / "backbone.pth"))


def test_tasks_and_thresholds(folder: Path, image: np.ndarray) -> None:
    only = Predictor(folder, tasks=["semantic"])(image)
    assert only.tasks == ("semantic",)
    with pytest.raises(ValueError, match="no panoptic result"):
        only.panoptic  # noqa: B018
    with pytest.raises(ValueError, match="'depth' is not a task"):
        Predictor(folder, tasks=["depth"])
    with pytest.raises(ValueError, match=r"not instance.*INSTANCE_ON"):
        Predictor(folder, tasks=["instance"], opts=["MODEL.MASK_FORMER.TEST.INSTANCE_ON", "False"])
    with pytest.raises(ValueError, match="within 0 and 1"):
        Predictor(folder, threshold=2)


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = (
        "import mask2former, sys\n"
        "assert 'mask2former.predictor' not in sys.modules\n"
        "from mask2former import Predictor\n"
        "import mask2former.engine.trainer\n"
        "assert not {'matplotlib', 'scipy'} & set(sys.modules)"  # a second each
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    with pytest.raises(AttributeError, match="has no attribute 'Predicter'"):
        mask2former.Predicter  # noqa: B018
