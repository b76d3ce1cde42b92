"""Films through a predictor and the demo: reading, drawing, tracks."""

from __future__ import annotations

import csv
import json

import av
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mask2former.predictor.video import Frames
from mask2former.predictor.video_file import VideoFile
from mask2former.tracking import TracksFile


@pytest.fixture
def film(tmp_path):
    """A square that moves by two pixels a frame; times of frames are uneven."""
    file = VideoFile(tmp_path / "film.mp4", 10)
    for number in range(20):
        pixels = np.full((65, 97, 3), 30, np.uint8)
        pixels[20:40, 2 * number : 2 * number + 20] = (220, 40, 40)
        file.write(pixels, number / 10 + (0.04 if number % 2 else 0))
    file.close()
    return tmp_path / "film.mp4"


def test_films_are_h264_that_browsers_play(film):
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.codec_context.width, stream.codec_context.height) == (96, 64)  # even


def test_frames_come_with_their_times(film):
    frames = list(Frames(film))
    assert [round(frame.seconds, 3) for frame in frames[:4]] == [0, 0.14, 0.2, 0.34]
    for number, frame in enumerate(frames):
        assert frame.pixels[30, 2 * number + 10, 0] > 180 and frame.pixels[5, 5, 0] < 60


def test_a_range_of_frames(film):
    whole = list(Frames(film))
    part = Frames(film, 3, 15, 4)
    assert len(part) == 3
    assert all(np.array_equal(a.pixels, whole[i].pixels) for i, a in zip((3, 7, 11), part, strict=True))
    with pytest.raises(ValueError, match="are none"):
        Frames(film, 5, 5)
    with pytest.raises(OSError, match="no frame from 50 on"):
        list(Frames(film, 50))


def test_a_film_that_ends_in_damage_says_which_frame(film, tmp_path):
    data = bytearray(film.read_bytes())
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(OSError, match=r"empty\.mp4: not a video"):
        Frames(tmp_path / "empty.mp4")
    try:  # with its index at the beginning, the first half is a film
        count = sum(1 for _ in Frames(tmp_path / "cut.mp4"))
    except OSError as error:
        assert "cut.mp4" in str(error)
    else:
        assert 0 < count < 20


def test_a_folder_is_a_film(tmp_path):
    import cv2

    for number in (2, 0, 1):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 9, 3), number, np.uint8))
    assert [frame.pixels[0, 0, 0] for frame in Frames(tmp_path)] == [0, 1, 2]


def test_frames_of_another_size_are_fitted_into_the_first(tmp_path, caplog):
    file = VideoFile(tmp_path / "film.mp4", 10)
    file.write(np.full((40, 60, 3), 200, np.uint8))
    file.write(np.full((40, 30, 3), 200, np.uint8))
    file.close()
    last = list(Frames(tmp_path / "film.mp4"))[1].pixels
    assert last.shape == (40, 60, 3) and last[20, 5].max() < 40 and last[20, 30].min() > 170
    assert "30 x 40" in caplog.text


def test_json_of_tracks_has_masks_where_they_are_seen(tmp_path):
    rng = np.random.default_rng(0)
    masks = rng.random((3, 2, 6, 7)) > 0.5
    file = TracksFile(tmp_path / "tracks.json", "film", [11, 22], ["cat", "dog"])
    for number, tracks in enumerate(([1, 2], [2, 5], [])):
        boxes = np.array([[0, 1, 5, 6], [2, 0, 7, 3]], np.float32)[: len(tracks)]
        file.add(tracks, masks[number][: len(tracks)], boxes, [0, 1][: len(tracks)], [0.5, 1.0][: len(tracks)], None)
    content = json.loads(file.write().read_text())
    assert content["videos"] == [{"id": 1, "name": "film", "width": 7, "height": 6, "length": 3}]
    found = {entry["id"]: entry for entry in content["annotations"]}
    assert set(found) == {1, 2, 5} and found[5]["category_id"] == 22
    assert [part is None for part in found[2]["segmentations"]] == [False, False, True]
    assert np.array_equal(coco_mask.decode(found[2]["segmentations"][1]), masks[1, 0])
    assert found[1]["bboxes"] == [[0, 1, 5, 5], None, None] and found[5]["areas"][1] == masks[1, 1].sum()
    assert found[2]["score"] == 0.75  # 1.0 and 0.5


def test_a_table_of_tracks(tmp_path):
    file = TracksFile(tmp_path / "tracks.csv", "film", [11, 22], ["cat", "dog"])
    file.add([7], np.ones((1, 4, 5), bool), np.array([[0, 0, 5, 4]], np.float32), [1], [0.9], 1.25)
    (row,) = csv.DictReader(file.write().open())
    assert (row["track"], row["class"], row["seconds"], row["area"]) == ("7", "dog", "1.25", "20")


def test_other_files_of_tracks_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"json or \.csv"):
        TracksFile(tmp_path / "tracks.txt", "film", [], [])
