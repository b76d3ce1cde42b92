"""The demo: as a command, and its answers to what is wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from mask2former import Predictor, zoo
from mask2former.config import load_config
from mask2former.download import DownloadError
from mask2former.predictor import default_model

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "demo" / "demo.py"
CONFIG = ROOT / "configs" / "quickstart" / "panoptic.yaml"
TASKS = ("panoptic", "instance", "semantic")

spec = importlib.util.spec_from_file_location("demo", SCRIPT)
assert spec is not None and spec.loader is not None
demo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(demo)


@pytest.fixture
def model(small_training: Path) -> Path:
    return small_training


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of two images of different sizes and a text file."""
    folder = tmp_path / "images"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for name, size in {"a.png": (60, 80), "b.jpg": (100, 70)}.items():
        cv2.imwrite(str(folder / name), noise.integers(0, 256, (*size, 3), dtype=np.uint8))
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Four frames, ten a second."""
    file = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(4):
        writer.write(np.full((48, 64, 3), 60 * number, np.uint8))
    writer.release()
    return file


def run(*words: object) -> None:
    demo.main([str(word) for word in words])


def draw(model: Path, output: Path, *inputs: object, flags: tuple[object, ...] = ()) -> dict[str, np.ndarray]:
    run("--model", model, "--input", *inputs, "--output", output, *flags)
    return {file.name: cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in sorted(output.iterdir())}


def test_as_a_command_it_draws_what_it_can(model: Path, small_options: list[str], images: Path, tmp_path: Path) -> None:
    """Called as the published demo is."""
    broken = images / "broken.png"
    broken.write_bytes(b"\x89PNG no more")
    missing = tmp_path / "missing.jpg"
    output = tmp_path / "drawn"
    words = ["--config-file", CONFIG, "--input", images, missing, "--output", output]
    words += ["--opts", *small_options, "MODEL.WEIGHTS", model / "model_final.pth"]
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # this checkout, installed or not
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 1, done.stderr
    assert f"error: {missing}: no such file" in done.stderr
    assert f"error: {broken}: not an image" in done.stderr
    assert "Traceback" not in done.stderr
    assert f"drawn: 6 files in {output}" in done.stdout
    assert "2 images" in done.stdout and "a second" in done.stdout
    expected = [f"a_{task}.png" for task in TASKS] + [f"b_{task}.jpg" for task in TASKS]
    assert sorted(file.name for file in output.iterdir()) == sorted(expected)
    assert cv2.imread(str(output / "a_semantic.png")).shape[:2] == (6 * 60, 6 * 80)


def test_folders_globs_and_names(model: Path, images: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes((images / "a.png").read_bytes())
    inputs = (images / "*.jpg", images / "a.png", other, images / "a.png")
    drawn = draw(model, tmp_path / "drawn", *inputs, flags=("--task", "semantic"))
    assert list(drawn) == ["a_semantic.png", "a_semantic_2.png", "b_semantic.jpg"]
    assert np.array_equal(drawn["a_semantic.png"], drawn["a_semantic_2.png"])


def test_without_an_output_it_writes_to_drawn(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run("--model", model, "--input", images / "a.png", "--task", "panoptic")
    assert (tmp_path / "drawn" / "a_panoptic.png").is_file()
    assert str(Path("drawn", "a_panoptic.png")) in capsys.readouterr().out


def test_tiles(model: Path, images: Path, tmp_path: Path) -> None:
    options = ["--task", "semantic", "--mode", "labels", "--tile", "64", "--overlap", "16"]
    files = ["--input", str(images / "a.png"), "--output", str(tmp_path / "o.png")]
    demo.main(["--model", str(model), *files, *options])
    expected = Predictor(model, tile=64, overlap=16)(images / "a.png").semantic
    assert np.array_equal(cv2.imread(str(tmp_path / "o.png"), cv2.IMREAD_UNCHANGED), expected)


def test_a_file_as_output(model: Path, images: Path, tmp_path: Path) -> None:
    """As the published demo takes one; it holds the first task's result."""
    file = tmp_path / "new" / "out.jpg"
    run("--model", model, "--input", images / "a.png", "--output", file)
    assert [path.name for path in file.parent.iterdir()] == ["out.jpg"]
    with pytest.raises(SystemExit, match="one file, but there are 2 inputs"):
        run("--model", model, "--input", images, "--output", file)


def test_a_file_as_output_is_of_the_kind_of_the_input(images: Path, video: Path, tmp_path: Path) -> None:
    """Said before the model is looked for, which is not there."""
    nowhere = ("--model", tmp_path / "nowhere", "--output")
    with pytest.raises(SystemExit, match=r"x\.png is an image, but the input is a video; name .*x\.mp4\."):
        run(*nowhere, tmp_path / "x.png", "--input", video)
    with pytest.raises(SystemExit, match=r"x\.jpg is an image, but the input is a video"):
        run(*nowhere, tmp_path / "x.jpg", "--webcam")
    with pytest.raises(SystemExit, match=r"x\.mp4 is a video, but the input is an image; name .*x\.png\."):
        run(*nowhere, tmp_path / "x.mp4", "--input", images / "a.png")


def test_confidence_threshold(model: Path, images: Path, tmp_path: Path) -> None:
    everything, nothing = (
        draw(model, tmp_path / share, images / "a.png", flags=("--confidence-threshold", share)) for share in ("0", "1")
    )
    plain = cv2.resize(cv2.imread(str(images / "a.png")), None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    for task in ("instance", "panoptic"):
        assert np.array_equal(nothing[f"a_{task}.png"], plain)
        assert not np.array_equal(everything[f"a_{task}.png"], plain)
    assert np.array_equal(nothing["a_semantic.png"], everything["a_semantic.png"])


def test_styles_modes_and_legend(model: Path, images: Path, tmp_path: Path) -> None:
    def drawn(*flags: str) -> np.ndarray:
        flags = ("--task", "semantic", *flags)
        return draw(model, tmp_path / "-".join(flags), images / "a.png", flags=flags)["a_semantic.png"]

    over = drawn()
    assert drawn("--style", "side-by-side").shape[1] > 2 * over.shape[1]
    assert drawn("--legend").shape[0] > over.shape[0]
    images_of_modes = [over, *(drawn("--mode", mode) for mode in ("masks", "contours", "boxes"))]
    assert all(image.shape == over.shape for image in images_of_modes)
    assert len({image.tobytes() for image in images_of_modes}) == 4
    labels = drawn("--mode", "labels")
    assert np.array_equal(labels, Predictor(model)(images / "a.png").semantic)


def test_files_for_other_programs(model: Path, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "drawn"
    run(
        *("--model", model, "--input", images, "--output", output, "--save-json", "--save-masks"),
        *("--confidence-threshold", "0.01"),
    )
    coco = COCO(str(output / "instance.json"))
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == ["a.png", "b.jpg"]
    results = Predictor(model, threshold=0.01)(images)
    assert len(coco.getAnnIds()) == sum(len(result.instances) for result in results) > 0
    panoptic = json.loads((output / "panoptic.json").read_text())
    for annotation, result in zip(panoptic["annotations"], results, strict=True):
        ids = cv2.imread(str(output / "panoptic" / annotation["file_name"]))[:, :, ::-1].astype(int) @ (1, 256, 65536)
        assert np.array_equal(ids, result.panoptic)
    assert len(list((output / "a_instance_masks").iterdir())) == len(results[0].instances)


def test_videos(model: Path, video: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "drawn"
    run("--model", model, "--input", video, images / "a.png", "--output", output, "--batch-size", "3", "--save-json")
    capture = cv2.VideoCapture(str(output / "film_panoptic.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) == 8 * 64
    assert (output / "a_panoptic.png").is_file()
    assert len(json.loads((output / "panoptic.json").read_text())["images"]) == 5
    assert "film_panoptic.mp4" in capsys.readouterr().out
    run("--model", model, "--video-input", video, "--output", tmp_path / "two.mp4", "--frames", "2")
    assert cv2.VideoCapture(str(tmp_path / "two.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 2


def test_frames_are_numbered_in_their_video(model: Path, video: Path, images: Path, tmp_path: Path) -> None:
    again = tmp_path / "again" / video.name
    again.parent.mkdir()
    again.write_bytes(video.read_bytes())
    inputs = ("--input", images / "a.png", video, again, "--frames", "2", "--task", "semantic")
    run("--model", model, *inputs, "--output", tmp_path / "out", "--save-json")
    entries = json.loads((tmp_path / "out" / "semantic.json").read_text())["images"]
    names = ["film_000001.jpg", "film_000002.jpg", "film_2_000001.jpg", "film_2_000002.jpg"]
    assert [image["file_name"] for image in entries] == ["a.png", *names]
    assert [image["id"] for image in entries] == [1, 2, 3, 4, 5]


def test_a_video_has_no_label_numbers(video: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="give the frames as images"):
        run("--input", video, "--mode", "labels", "--output", tmp_path / "out")


def test_a_camera(
    model: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of its frames the first ones; there is none here, so a file stands for it."""
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: real(str(video)) if source == 1 else real(source))
    run("--model", model, "--webcam", "1", "--frames", "3", "--output", tmp_path)
    assert real(str(tmp_path / "camera1_panoptic.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: real("nowhere"))
    with pytest.raises(SystemExit, match="1 of the inputs"):
        run("--model", model, "--webcam", "--output", tmp_path)
    assert "error: camera 0: it cannot be opened" in capsys.readouterr().err


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(url: str) -> str:
        raise DownloadError(f"{url}: the server cannot be reached")

    monkeypatch.setattr(zoo, "fetch", fetch)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("no_network")
def test_the_default_model_without_a_network(images: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^error: .*swin_tiny is not available.*make demo") as stopped:
        run("--input", images)
    assert "\n" not in str(stopped.value)
    assert not (tmp_path / "drawn").exists()


@pytest.mark.usefixtures("no_network")
def test_the_quickstart_stands_in_for_the_default_model(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / default_model.QUICKSTART).parent.mkdir(parents=True)
    (tmp_path / default_model.QUICKSTART).symlink_to(model)
    run("--input", images / "a.png")
    assert (tmp_path / "drawn" / "a_panoptic.png").is_file()
    assert "so the quickstart's" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config-file", CONFIG, "--opts", "MODEL.WEIGHTS", "nowhere.pth"], r"nowhere\.pth: no weights file"),
        (["--config-file", CONFIG], "MODEL.WEIGHTS is empty"),
        (["--config-file", "no.yaml"], r"no\.yaml: no such configuration"),
        (["--model", "coco/panoptic/r5"], r"similar ones: coco/panoptic/r50"),
        (["--input", "nowhere/*.jpg"], "no image to draw on"),
        (["--mode", "labels", "--legend"], "--mode labels writes label numbers"),
        (["--output", CONFIG], "is a file; name a folder"),
    ],
    ids=["weights", "no weights", "config", "model", "input", "labels", "output"],
)
def test_errors_say_what_to_do(
    words: list, message: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message) as stopped:
        run("--input", images, *words)
    assert "\n" not in str(stopped.value)
    assert not (tmp_path / "drawn").exists()


def test_a_task_that_the_configuration_lacks(model: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"panoptic, semantic, not instance.*TEST\.INSTANCE_ON True"):
        run(
            *("--model", model, "--input", images, "--output", tmp_path, "--task", "instance"),
            *("--opts", "MODEL.MASK_FORMER.TEST.INSTANCE_ON", "False"),
        )


@pytest.mark.parametrize("share", ["-0.1", "1.5", "half"])
def test_confidence_is_a_share(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("--input", "x", "--confidence-threshold", share)
    assert "--confidence-threshold" in capsys.readouterr().err


def test_predictor_turns_channels_as_the_configuration_says(model: Path, small_options: list[str]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    options = [*small_options, "MODEL.WEIGHTS", str(model / "model_final.pth"), "INPUT.FORMAT"]
    rgb, bgr = (Predictor(load_config(str(CONFIG), [*options, order])) for order in ("RGB", "BGR"))
    expected = rgb.outputs(image)["sem_seg"]
    assert expected.shape == (12, 40, 60)
    assert torch.allclose(bgr.outputs(image[:, :, ::-1])["sem_seg"], expected)
    assert not torch.allclose(bgr.outputs(image)["sem_seg"], expected)


@pytest.mark.parametrize(("height", "width"), [(1, 4000), (4000, 1)])
def test_thin_images(model: Path, small_options: list[str], height: int, width: int) -> None:
    options = [*small_options, "MODEL.WEIGHTS", str(model / "model_final.pth")]
    output = Predictor(load_config(str(CONFIG), options)).outputs(np.zeros((height, width, 3), np.uint8))
    assert output["sem_seg"].shape[1:] == output["panoptic_seg"][0].shape == (height, width)


def test_a_broken_video_ends_itself_alone(model: Path, video: Path, images: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(SystemExit, match="1 of the inputs"):
        run("--model", model, "--input", broken, video, images / "a.png", "--output", tmp_path / "out", "--save-json")
    assert {file.suffix for file in (tmp_path / "out").iterdir()} >= {".json", ".mp4"}
