"""A predictor over films."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mask2former import Predictor
from mask2former.predictor.video import Frames
from mask2former.predictor.video_file import VideoFile
from mask2former.predictor.windows import Windows
from mask2former.tracking import Tracker

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    file = VideoFile(path, 10)
    still = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for _ in range(4):
        file.write(still)
    file.close()
    return path


def test_a_text_is_a_film_and_never_its_letters(predictor: Predictor, film: Path) -> None:
    results = list(predictor.stream(str(film), batch_size=3))
    assert len(results) == 4
    assert [round(result.seconds, 2) for result in results] == [0.0, 0.1, 0.2, 0.3]
    with pytest.raises(ValueError, match=r"predictor\.stream\("):
        predictor(str(film))
    with pytest.raises(FileNotFoundError):
        predictor.stream(str(film.with_name("missing.mp4")))
    with pytest.raises(ValueError, match=r"is a film among images: .*predictor\.stream\('.*mp4'\), without a list"):
        predictor([str(film)])
    with pytest.raises(ValueError, match="is a film among images"):
        next(iter(predictor.stream([film])))


def test_a_film_of_one_image_keeps_its_objects(predictor: Predictor, film: Path) -> None:
    """Compression changes the frames a little, so the queries of random weights stay alike."""
    results = list(predictor.stream(film))
    numbers = [set(result.instances.tracks.tolist()) for result in results]
    assert numbers[0] and all(one == numbers[0] for one in numbers)
    segments = [{segment["id"]: segment["category_id"] for segment in result.segments} for result in results]
    assert segments[0] and all(one.keys() & segments[0].keys() for one in segments)
    for result in results:
        things = [segment for segment in result.segments if segment["isthing"]]
        assert all(segment["track_id"] in numbers[0] for segment in things)


def test_masks_are_those_of_the_single_frame(predictor: Predictor, film: Path) -> None:
    (frame,) = Frames(film, 0, 1)
    tracked = next(predictor.stream(film)).instances
    alone = predictor(frame.pixels).instances
    assert alone.tracks is None and len(tracked) <= len(alone)
    best = {number: score for number, score in zip(alone.classes, alone.scores, strict=True) if score > 0}
    assert set(tracked.classes) <= set(best)
    for mask in tracked.masks:  # a query's mask, which the other result has with one class or another
        assert any(np.array_equal(mask, other) for other in alone.masks)


def test_tracking_is_a_choice(predictor: Predictor, film: Path) -> None:
    assert next(predictor.stream(film, track=False)).instances.tracks is None
    frames = [frame.pixels for frame in Frames(film)]
    assert next(predictor.stream(frames)).instances.tracks is None
    assert next(predictor.stream(frames, track=True)).instances.tracks is not None
    tracker = Tracker(start=0.0, follow=0.0)
    list(predictor.stream(frames, track=tracker))
    assert tracker._frame == 3


def test_the_demo_writes_films_and_tracks(folder: Path, film: Path, tmp_path: Path, capsys) -> None:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "demo" / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    given = ["--model", str(folder), "--input", str(film), "--confidence-threshold", "0.01", "--task", "instance"]
    demo.main(
        [*given, "--output", str(tmp_path / "drawn.mp4"), "--tracks", str(tmp_path / "tracks.csv"), "--start", "1"]
    )
    assert "tracks.csv" in capsys.readouterr().out
    assert len(list(Frames(tmp_path / "drawn.mp4"))) == 3
    rows = list(csv.DictReader((tmp_path / "tracks.csv").open()))
    assert {row["frame"] for row in rows} == {"0", "1", "2"}
    with pytest.raises(SystemExit):
        demo.main([*given, "--no-track", "--output", str(tmp_path / "b.mp4"), "--tracks", str(tmp_path / "b.csv")])


def test_a_clip_model_sees_windows(folder: Path, film: Path, predictor: Predictor) -> None:
    changes = [
        *("MODEL.META_ARCHITECTURE", "VideoMaskFormer"),
        *("MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "VideoMultiScaleMaskedTransformerDecoder"),
    ]
    clips = Predictor(folder, threshold=predictor.threshold, opts=changes)
    frames = [clips._input(frame)["image"] for frame in Frames(film)]
    results = list(clips.stream(film, windows=Windows(3, 1)))
    assert len(results) == 4
    numbers = [set(result.instances.tracks.tolist()) for result in results]
    assert numbers[0] and numbers[3] & numbers[0]
    ((class_logits, masks), *_) = clips.model.predict([{"image": frames[:3], "height": 48, "width": 64}])
    likely = (1 - class_logits.softmax(-1)[:, -1] >= predictor.threshold).nonzero().flatten()
    every = (masks(likely) > 0).numpy()
    for mask in results[0].instances.masks:
        assert any(np.array_equal(mask, other) for other in every)
    by_frame = next(clips.stream(film, track=Tracker(0.0, 0.0)))
    assert by_frame.instances.tracks is not None
    listed = [frame.pixels for frame in Frames(film)]
    assert next(clips.stream(listed, windows=Windows(3, 1))).instances.tracks is not None  # no film, but asked for
    for follows in (False, Tracker()):
        with pytest.raises(ValueError, match="follow objects by themselves"):
            clips.stream(film, track=follows, windows=Windows(3, 1))
    with pytest.raises(ValueError, match=r"windows \(--window\) are for models"):
        predictor.stream(film, windows=Windows())
