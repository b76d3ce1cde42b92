"""The commands one after another, as a person runs them on own data: each takes what the one before has left."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import layouts
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from forked import run_python

from mask2former.config import load_config
from mask2former.export import load
from mask2former.predictor import Predictor
from mask2former_cli.main import main

ROOT = Path(__file__).parents[2]
SHORT = [
    *("SOLVER.MAX_ITER", "2", "INPUT.MIN_SIZE_TEST", "64", "INPUT.MIN_SIZE_TRAIN", "(64,)"),
    *("INPUT.CROP.SIZE", "[64, 64]", "MODEL.MASK_FORMER.NUM_LOCATED_QUERIES", "8"),
]
IMAGE = "pets/val2017/b.png"


def train(folder: Path, output: str, *settings: str) -> None:
    """Train in a process of its own, so that this one knows of the data only what the folder says."""
    words = ["--data", "pets", "--model", "small", "--from-scratch", "--output", output, "--quiet", *settings]
    done = run_python(["-m", "mask2former_cli.main", "train-custom", *words], folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(small_network: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a person trained `mine` on `pets`."""
    folder = tmp_path_factory.mktemp("person")
    layouts.coco_own(folder / "pets")
    train(folder, "mine", *small_network, *SHORT)
    return folder


@pytest.fixture(autouse=True)
def new_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin in that folder and without the data sets of the command before, as a new process does."""
    monkeypatch.chdir(folder)
    yield
    for catalog in (DatasetCatalog, MetadataCatalog):
        for name in [name for name in catalog.list() if name.startswith("custom_") or "mine" in name]:
            catalog.remove(name)


def test_a_folder_that_was_moved_is_evaluated_where_it_is_and_stays_the_model_that_it_was(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores are those of the training; nothing is written to its place, nor where the command is given."""
    moved = Path(shutil.copytree("mine", tmp_path / "kept" / "mine"))
    before = {name: (moved / name).read_bytes() for name in ("config.yaml", "metadata.json")}
    files = {file: file.stat().st_mtime_ns for file in (folder / "mine").rglob("*")}
    shutil.rmtree(moved / "inference")
    (moved / "scores.json").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    # More than there are queries, so that no score changes.
    assert main(["evaluate", "--model", str(moved), "--quiet", "TEST.DETECTIONS_PER_IMAGE", "77"]) == 0
    for file in ("scores.json", "inference/coco_instances_results.json"):
        assert (moved / file).read_text() == (folder / "mine" / file).read_text()
    assert {name: (moved / name).read_bytes() for name in before} == before
    assert load_config(str(moved / "config_evaluated.yaml")).TEST.DETECTIONS_PER_IMAGE == 77
    assert not list((tmp_path / "elsewhere").iterdir())
    assert {file: file.stat().st_mtime_ns for file in (folder / "mine").rglob("*")} == files


def test_predict_writes_what_the_predictor_finds() -> None:
    words = ["--model", "mine", "--input", IMAGE, "--confidence-threshold", "0", "--save-json", "--output", "drawn"]
    assert main(["predict", *words]) == 0
    assert Path("drawn/b_instance.png").stat().st_size
    found = json.loads(Path("drawn/instance.json").read_text())
    expected = Predictor("mine", device="cpu")(IMAGE, threshold=0.0).instances.scores
    assert [entry["score"] for entry in found["annotations"]] == pytest.approx(expected.tolist()) != []


def test_draw_takes_the_folder_too() -> None:
    assert main(["draw", "--model", "mine", "--number", "1", "--threshold", "0", "--output", "compared"]) == 0
    assert {file.name for file in Path("compared").iterdir()} == {"b.png", "contact_sheet.png"}


def test_report_and_compare() -> None:
    assert Path("mine/report.html").stat().st_size
    assert main(["report", "mine"]) == 0
    assert "<title>mine" in Path("mine/curves.html").read_text()
    shutil.copytree("mine", "other", ignore=shutil.ignore_patterns("*.pth"))
    assert main(["compare", "mine", "other", "--output", "compare.html"]) == 0
    assert "<title>mine and other" in Path("compare.html").read_text()


@pytest.mark.slow
def test_export_is_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "mine", "mine.pt2", "--portable", "--size", "64", "96"]) == 0
    assert "100.000 %" in capsys.readouterr().out
    _, metadata = load("mine.pt2")
    assert metadata["classes"] == list(layouts.NAMES)


def test_convert_refuses_what_has_no_place_and_says_how_to_train(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "mine", "hf_mine", "--to", "hf"]) == 2
    said = capsys.readouterr().err
    assert "NAME is 'LocatedQueryDecoder'" in said
    assert "TRANSFORMER_DECODER_NAME MultiScaleMaskedTransformerDecoder." in said
    assert not Path("hf_mine").exists()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
def test_a_model_that_was_trained_as_said_opens_in_transformers(small_network: list[str], folder: Path) -> None:
    import transformers

    key = ("MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "MultiScaleMaskedTransformerDecoder")
    train(folder, "mine_hf", *small_network, *SHORT[:-2], *key)
    assert main(["convert", "mine_hf", "hf_mine_hf", "--to", "hf"]) == 0
    their = transformers.Mask2FormerForUniversalSegmentation
    model, found = their.from_pretrained("hf_mine_hf", output_loading_info=True)
    assert not any(found.values()), found
    assert list(model.config.id2label.values()) == list(layouts.NAMES)
