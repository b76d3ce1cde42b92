"""The demo: as a command, and its answers to what is wrong."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

from mask2former.data import register_all
from mask2former.engine import load_config
from mask2former.predictor import Predictor

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "demo" / "demo.py"
CONFIG = ROOT / "configs" / "quickstart" / "panoptic.yaml"
SMALL = [
    *("MODEL.DEVICE", "cpu"),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", "32"),
    *("MODEL.SEM_SEG_HEAD.MASK_DIM", "32"),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", "1"),
    *("MODEL.MASK_FORMER.HIDDEN_DIM", "32"),
    *("MODEL.MASK_FORMER.DEC_LAYERS", "2"),
    *("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "10"),
]

spec = importlib.util.spec_from_file_location("demo", SCRIPT)
assert spec is not None and spec.loader is not None
demo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(demo)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a small model."""
    if not MetadataCatalog.get("quickstart_train_panoptic").get("thing_classes"):
        register_all(os.environ.get("DETECTRON2_DATASETS", "datasets"))
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save({"model": build_model(load_config(str(CONFIG), SMALL)).state_dict()}, file)
    return file


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two pictures of different sizes and a text file."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for name, size in {"a.png": (60, 80), "b.jpg": (100, 70)}.items():
        cv2.imwrite(str(folder / name), noise.integers(0, 256, (*size, 3), dtype=np.uint8))
    (folder / "notes.txt").write_text("no picture")
    return folder


def arguments(weights: Path, output: Path, *inputs: object, flags: tuple[str, ...] = ()) -> list[str]:
    words = ["--config-file", CONFIG, "--input", *inputs, "--output", output, *flags]
    return [str(word) for word in (*words, "--opts", *SMALL, "MODEL.WEIGHTS", weights)]


def draw(weights: Path, output: Path, *inputs: object, flags: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    demo.main(arguments(weights, output, *inputs, flags=flags))
    return {file.name: cv2.imread(str(file)) for file in sorted(output.iterdir())}


def test_as_a_command_it_draws_what_it_can(weights: Path, pictures: Path, tmp_path: Path) -> None:
    broken = pictures / "broken.png"
    broken.write_bytes(b"\x89PNG no more")
    missing = tmp_path / "missing.jpg"
    output = tmp_path / "drawn"
    command = [sys.executable, str(SCRIPT), *arguments(weights, output, pictures, missing)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # this checkout, installed or not
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 1, done.stderr
    assert f"error: {missing}: no such file" in done.stderr
    assert f"error: {broken}: not a picture" in done.stderr
    assert f"in {output}" in done.stdout
    tasks = ("instance", "panoptic", "semantic")
    assert sorted(file.name for file in output.iterdir()) == [f"{name}_{task}.png" for name in "ab" for task in tasks]
    assert cv2.imread(str(output / "a_semantic.png")).shape[:2] == (6 * 60, 6 * 80)


def test_folders_globs_and_names(weights: Path, pictures: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes((pictures / "a.png").read_bytes())
    inputs = (pictures / "*.jpg", pictures / "a.png", other, pictures / "a.png")
    drawn = draw(weights, tmp_path / "drawn", *inputs, flags=("--task", "semantic"))
    assert list(drawn) == ["a_semantic.png", "a_semantic_2.png", "b_semantic.png"]
    assert np.array_equal(drawn["a_semantic.png"], drawn["a_semantic_2.png"])


def test_confidence_threshold(weights: Path, pictures: Path, tmp_path: Path) -> None:
    everything, nothing = (
        draw(weights, tmp_path / share, pictures / "a.png", flags=("--confidence-threshold", share))
        for share in ("0", "1")
    )
    plain = cv2.resize(cv2.imread(str(pictures / "a.png")), None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    for task in ("instance", "panoptic"):
        assert np.array_equal(nothing[f"a_{task}.png"], plain)
        assert not np.array_equal(everything[f"a_{task}.png"], plain)
    assert np.array_equal(nothing["a_semantic.png"], everything["a_semantic.png"])


def test_styles(weights: Path, pictures: Path, tmp_path: Path) -> None:
    over, beside = (
        draw(weights, tmp_path / style, pictures / "a.png", flags=("--task", "semantic", "--style", style))
        for style in ("overlay", "side-by-side")
    )
    assert beside["a_semantic.png"].shape[1] > 2 * over["a_semantic.png"].shape[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "nowhere.pth"}, r"nowhere\.pth: no such file of weights"),
        ({"weights": ""}, "MODEL.WEIGHTS is empty"),
        ({"inputs": ["nowhere/*.jpg"]}, "no picture to draw on"),
        ({"flags": ("--task", "instance", "--config-file", "no.yaml")}, r"no\.yaml: no such configuration"),
    ],
    ids=["weights", "no weights", "input", "config"],
)
def test_errors_say_what_to_do(
    change: dict, message: str, weights: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "drawn"
    words = arguments(
        change.get("weights", weights), output, *change.get("inputs", [pictures]), flags=change.get("flags", ())
    )
    with pytest.raises(SystemExit, match=message):
        demo.main(words)
    assert not output.exists()


def test_a_task_that_the_configuration_lacks(weights: Path, pictures: Path, tmp_path: Path) -> None:
    words = arguments(weights, tmp_path / "drawn", pictures, flags=("--task", "instance"))
    with pytest.raises(SystemExit, match=r"panoptic, semantic, not instance.*TEST\.INSTANCE_ON True"):
        demo.main([*words, "MODEL.MASK_FORMER.TEST.INSTANCE_ON", "False"])


@pytest.mark.parametrize("share", ["-0.1", "1.5", "half"])
def test_confidence_is_a_share(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        demo.main(["--config-file", "x", "--input", "x", "--output", "x", "--confidence-threshold", share])
    assert "--confidence-threshold" in capsys.readouterr().err


def test_predictor_turns_channels_as_the_configuration_says(weights: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    options = [*SMALL, "MODEL.WEIGHTS", str(weights), "INPUT.FORMAT"]
    rgb, bgr = (Predictor(load_config(str(CONFIG), [*options, order])) for order in ("RGB", "BGR"))
    expected = rgb(picture)["sem_seg"]
    assert expected.shape == (12, 40, 60)
    assert torch.allclose(bgr(picture[:, :, ::-1])["sem_seg"], expected)
    assert not torch.allclose(bgr(picture)["sem_seg"], expected)


@pytest.mark.parametrize(("height", "width"), [(1, 4000), (4000, 1)])
def test_thin_pictures(weights: Path, height: int, width: int) -> None:
    predictor = Predictor(load_config(str(CONFIG), [*SMALL, "MODEL.WEIGHTS", str(weights)]))
    output = predictor(np.zeros((height, width, 3), np.uint8))
    assert output["sem_seg"].shape[1:] == output["panoptic_seg"][0].shape == (height, width)
