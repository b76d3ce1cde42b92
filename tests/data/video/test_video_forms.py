"""Other forms of tracks become YouTube-VIS files: the same videos, tracks and pixels from each; faults are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import video_data as data
from PIL import Image
from pycocotools import mask as coco_mask

from mask2former.custom import DataError, build_dataset, detect_format
from mask2former.custom.videos import convert
from mask2former.data.checks import check_annotations

FORMS = ("MOTS png", "MOTS txt", "COCO with video ids")


def sources(folder: Path, form: str) -> list[str]:
    images = data.write_frames(folder)
    if form == "MOTS png":
        return [images, data.write_mots_png(folder)]
    if form == "MOTS txt":
        return [images, data.write_mots_txt(folder)]
    (folder / "frames.json").write_text(json.dumps(data.coco_frames()))
    return [str(folder / "frames.json"), images]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_becomes_the_same_videos(tmp_path: Path, form: str) -> None:
    source = detect_format(sources(tmp_path, form))
    assert (source.kind, source.form) == ("video", form)
    written, sink = convert(source, tmp_path / "out" / "videos.json")
    assert str(written) == "2 videos, 6 frames, 4 tracks, 9 masks"
    assert sum(sink.counts.values()) == (0 if form.startswith("COCO") else 1)  # the ignored region
    content = json.loads((tmp_path / "out" / "videos.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "car"}, {"id": 2, "name": "pedestrian"}]
    names = {video["id"]: video["name"] for video in content["videos"]}
    files = {names[video["id"]]: video["file_names"] for video in content["videos"]}
    assert files == {video: [f"{video}/{n:06}.png" for n in numbers] for video, numbers in data.FRAMES.items()}
    assert [len(set(video["file_names"])) for video in content["videos"]] == [v["length"] for v in content["videos"]]
    found = []
    for track in content["annotations"]:
        video, masks = names[track["video_id"]], track["segmentations"]
        shown = [place for place, one in enumerate(masks) if one is not None]
        found.append((video, track["category_id"], shown))
        for place in shown:
            rle = masks[place]
            if isinstance(rle, list):
                rle = coco_mask.merge(coco_mask.frPyObjects(rle, data.HEIGHT, data.WIDTH))
            pixels = coco_mask.decode(rle)
            corners = [c for v, c in data.SQUARES[video, place].items() if v // 1000 == track["category_id"]]
            assert any(np.array_equal(pixels, data.mask(*corner)) for corner in corners)
    assert sorted(found) == sorted(data.TRACKS)


def test_check_of_a_bare_file_of_videos(tmp_path: Path) -> None:
    file, frames = data.write_youtube_vis(tmp_path)
    report = check_annotations(file, frames)
    assert not report.faults
    assert dict(report.counts) == {"videos": 2, "frames": 6, "tracks": 4}
    assert dict(report.tracks) == {"car": 2, "pedestrian": 2}
    assert {name: (t.objects, t.pixels) for name, t in report.classes.items()} == {
        "car": (5, 5 * data.SIDE**2),
        "pedestrian": (4, 4 * data.SIDE**2),
    }
    assert report.of_videos == {2: (4, 3), 5: (2, 1)}
    (tmp_path / "images" / "0005" / "000008.png").unlink()
    content = data.youtube_vis()
    content["annotations"][3]["segmentations"].pop()
    Path(file).write_text(json.dumps(content))
    faults = [fault.text for fault in check_annotations(file, frames).faults]
    assert len(faults) == 2 and faults[0] == "the image is missing" and faults[1].startswith("annotation 4: ")


def lines(folder: Path, video: str) -> tuple[Path, list[str]]:
    file = folder / "instances_txt" / f"{video}.txt"
    return file, file.read_text().splitlines()


def changed_line(change: Callable[[list[str]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file, given = lines(folder, "0002")
        parts = given[1].split()
        change(parts)
        file.write_text("\n".join([given[0], " ".join(parts), *given[2:]]))

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed_line(lambda p: p.pop()), "0002.txt: line 2: a line has frame, track, class, height, width"),
        (changed_line(lambda p: p.__setitem__(0, "9")), "0002.txt: line 2: video 0002 has no frame 9"),
        (changed_line(lambda p: p.__setitem__(2, "3")), "0002.txt: line 2: class 3 has no name.*--classes"),
        (changed_line(lambda p: p.__setitem__(3, "49")), r"line 2: the size \(height, width\) is \(49, 64\)"),
        (changed_line(lambda p: p.__setitem__(5, "abc")), "line 2: the mask's"),
        (changed_line(lambda p: p.__setitem__(1, "1001")), "line 2: track 1001 of video 0002 has class 2 here"),
        (lambda f: (f / "instances_txt/0009.txt").write_text(""), "0009.txt: there is no folder of its frames"),
        (lambda f: (f / "images/0002/000002.png").rename(f / "images/0002/x2.png"), "x2.png: the name of a frame"),
    ],
)
def test_faults_of_mots_txt(tmp_path: Path, change: Callable[[Path], Any], message: str) -> None:
    paths = sources(tmp_path, "MOTS txt")
    change(tmp_path)
    with pytest.raises(DataError, match=message):
        convert(detect_format(paths), tmp_path / "videos.json")
    assert not (tmp_path / "videos.json").exists() and not list(tmp_path.glob(".*"))


def test_faults_of_mots_png(tmp_path: Path) -> None:
    paths = sources(tmp_path, "MOTS png")
    first = tmp_path / "instances" / "0002" / "000000.png"
    whole = first.read_bytes()
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(first)
    with pytest.raises(DataError, match=r"000000.png: the size .* is \(4, 5\), but that of the video's frames"):
        convert(detect_format(paths), tmp_path / "videos.json")
    Image.fromarray(np.full((data.HEIGHT, data.WIDTH), 7, np.uint16)).save(first)
    with pytest.raises(DataError, match=r"000000.png: pixels of 7: class 0 has no name"):
        convert(detect_format(paths), tmp_path / "videos.json")
    first.unlink()
    with pytest.raises(DataError, match=r"0002: frame 0002/000000.png has no png of its labels"):
        convert(detect_format(paths), tmp_path / "videos.json")
    first.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"000000.png"):
        convert(detect_format(paths), tmp_path / "videos.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][0].pop("track_id"), "annotation 1: it does not say its track"),
        (lambda c: c["images"][0].pop("video_id"), "image 1: video_id is None"),
        (lambda c: c["images"][1].__setitem__("frame_id", 1), "image 2: frame 1 of video 5 is image 1 already"),
        (lambda c: c["images"][1].pop("frame_id"), "image 2: its number in video 5"),
        (lambda c: c["images"][0].__setitem__("height", 50), "video 5: its images have the sizes"),
        (
            lambda c: c["annotations"][0].__setitem__("category_id", 2),
            "track 1001 of video 0005 has class 1 here, but 2",
        ),
    ],
)
def test_faults_of_coco_with_video_ids(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    paths = sources(tmp_path, FORMS[2])
    content = data.coco_frames()
    change(content)
    Path(paths[0]).write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        convert(detect_format(paths), tmp_path / "videos.json")


def test_whole_videos_are_held_out(tmp_path: Path) -> None:
    built = build_dataset(detect_format(sources(tmp_path, "MOTS png")), None, tmp_path / "data", name="forms")
    counts = sorted((one.num_videos, one.num_images) for one in (built.train, built.val))
    assert counts == [(1, 2), (1, 4)]
    assert any("1 of 2 videos are held out" in note for note in built.notes)
    assert any("MOTS png, read as 2 videos, 6 frames, 4 tracks, 9 masks" in note for note in built.notes)
    truth = json.loads(Path(built.val.paths["json_file"]).read_text())
    assert {video["id"] for video in truth["videos"]} == built.val.only
    assert {track["video_id"] for track in truth["annotations"]} == built.val.only
    assert built.train.only is not None and built.val.only is not None and not built.train.only & built.val.only
