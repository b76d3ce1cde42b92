"""What the web page does with a film, without the page: a drawn film that plays, and the tracks in it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mask2former.cli.app import draw_upload
from mask2former.predictor import Predictor
from mask2former.predictor.video_file import VideoFile

LENGTH, HEIGHT, WIDTH = 5, 48, 64


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("film") / "noise.mp4"
    video = VideoFile(file, 10.0)
    for t in range(LENGTH):
        video.write(np.random.default_rng(t).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), t / 10)
    video.close()
    return file


def frames_of(file: str) -> int:
    reader, count = cv2.VideoCapture(file), 0
    while reader.read()[0]:
        count += 1
    return count


@pytest.mark.parametrize("task", ["panoptic", "semantic"])
def test_a_film_is_drawn(film: Path, small_training: Path, tmp_path: Path, task: str) -> None:
    predictor = Predictor(str(small_training), device="cpu")
    *before, (said, drawn, tracks) = draw_upload(predictor, str(film), task, "overlay", tmp_path)
    assert before and before[0] == (f"frame 1 of {LENGTH}", None, None)
    assert drawn is not None and Path(drawn).is_relative_to(tmp_path) and frames_of(drawn) == LENGTH
    if task == "semantic":
        assert tracks is None and said == f"{LENGTH} frames"
        return
    content = json.loads(Path(tracks).read_text())
    assert [video["length"] for video in content["videos"]] == [LENGTH]
    assert said == f"{LENGTH} frames, {len(content['annotations'])} tracks"
    assert all(len(one["segmentations"]) == LENGTH for one in content["annotations"])


def test_what_is_no_film_is_refused(small_training: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no film")
    predictor = Predictor(str(small_training), device="cpu")
    with pytest.raises(OSError, match=r"bad\.mp4"):
        next(draw_upload(predictor, str(tmp_path / "bad.mp4"), "panoptic", "overlay", tmp_path))
