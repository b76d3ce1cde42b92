"""``mask2former benchmark``: every setting has a row, whose numbers agree with each other; no time is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mask2former.cli import benchmark
from mask2former.measure.memory import is_measurable
from mask2former.measure.timing import Statistics
from mask2former.predictor.load_image import LoadedImage
from mask2former_cli.main import main

SIZES = [(48, 64), (48, 64), (40, 40)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    result = tmp_path / "photos"
    result.mkdir()
    for number, size in enumerate(SIZES):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        cv2.imwrite(str(result / f"{number}.png"), pixels)
    return result


def test_own_images_in_two_batch_sizes(
    small_training: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "speed.json"
    words = ["benchmark", "--model", str(small_training), "--device", "cpu", "--images", str(folder), "--rounds", "3"]
    words += ["--batch", "1", "2", "--threads", "1", "--no-memory", "--task", "semantic", "--json", str(file)]
    words += ["--opts", "INPUT.MIN_SIZE_TEST", "48"]
    assert main(words) == 0
    said, report = capsys.readouterr().out, json.loads(file.read_text())
    assert [(row["backend"], row["dtype"], row["batch"]) for row in report["rows"]] == [
        ("torch", "float32", 1),
        ("torch", "float32", 2),
    ]
    for row in report["rows"]:
        assert row["images_per_second"] == pytest.approx(row["batch"] / row["median"])
        assert 0 < row["fastest"] <= row["lower_quartile"] <= row["median"] <= row["upper_quartile"]
        assert row["runs"] == 3 and row["peak"] is None
        assert f"{1000 * row['median']:.1f}" in said
    assert report["sizes"] == [[40, 40], [48, 64]] and report["task"] == "semantic" and report["number"] == 3
    assert report["machine"]["threads"] == 1
    assert "a batch ends where the size changes" in said


@pytest.mark.slow  # a process that loads the model by itself
def test_peak_memory_grows_with_the_batch(small_training: Path, tmp_path: Path) -> None:
    import torch

    if not is_measurable(torch.device("cpu")):
        pytest.skip("peaks of resident memory are Linux's to tell")
    file = tmp_path / "speed.json"
    words = ["benchmark", "--model", str(small_training), "--device", "cpu", "--size", "256x256", "--rounds", "1"]
    assert main([*words, "--batch", "1", "8", "--dtype", "bfloat16", "--json", str(file)]) == 0
    one, eight = json.loads(file.read_text())["rows"]
    assert eight["batch"] == 8 and eight["dtype"] == "bfloat16"
    # Eight images of 256 x 256 have 6 MiB as float32, before the network.
    assert eight["peak"] > one["peak"] + 7 * 256 * 256 * 3 * 4


def test_a_round_has_full_batches() -> None:
    photos = [LoadedImage(np.zeros((4, 4, 3), np.uint8), f"{number}.png") for number in range(3)]
    drawn = [LoadedImage(np.zeros((4, 4, 3), np.uint8)) for _ in range(4)]
    for batch, names in ((1, "012"), (2, "0120"), (3, "012"), (4, "0120"), (7, "0120120")):
        found = benchmark.pass_of(benchmark.Setting("torch", "float32", batch), photos)
        assert [image.name for image in found] == [f"{number}.png" for number in names]
    assert benchmark.pass_of(benchmark.Setting("torch", "float32", 2), drawn) == drawn[:2]


def test_the_table_is_of_one_batch() -> None:
    seconds = Statistics(median=0.5, lower_quartile=0.4, upper_quartile=0.6, fastest=0.3, runs=5)
    text = benchmark.table([benchmark.Row(benchmark.Setting("torch", "bfloat16", 4), seconds, 3 << 20)])
    cells = [cell.strip() for cell in text.splitlines()[-1].strip("|").split("|")]
    assert cells == ["torch", "bfloat16", "4", "500.0", "100.0", "8.00", "3"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backend", "onnxruntime", "--dtype", "bfloat16"], "--dtype bfloat16 is for --backend torch"),
        (["--images", "nowhere"], "nowhere: no such file"),
        (["--batch", "0"], "0 is no whole number of at least 1"),
        (["--batch", "two"], "two is no whole number of at least 1"),
        (["--size", "480"], "480 is no size"),
    ],
)
def test_mistakes_are_said(words: list[str], message: str, small_training: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", "--model", str(small_training), "--device", "cpu", *words])
    assert message in f"{stopped.value.code} {capsys.readouterr().err}"
    assert stopped.value.code not in (0, None)
