"""The report of an evaluation of videos: timelines and counts by hand, strips, and a page that is whole."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import video_data as data
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from PIL import Image
from pycocotools import mask as coco_mask
from test_report_page import Page, all_of

from mask2former import YTVISEvaluator, add_maskformer2_config
from mask2former.dashboard.clips import Span, by_class, judge_clips, timelines
from mask2former.dashboard.film_strips import chosen_frames
from mask2former.engine.reporting_evaluator import ReportingEvaluator
from mask2former.evaluation.video import ScoredTrack, VideoTruth

NAMES = {3: "cat", 7: "<dog>"}


def track(places: str, category: int, score: float = 1.0) -> ScoredTrack:
    """Make a track of a square in each frame: left, right, or not seen (.)."""
    masks: list[Any] = []
    for place in places:
        mask = np.zeros((8, 16), np.uint8, order="F")
        mask[:, {"L": slice(8), "R": slice(8, 16), ".": slice(0)}[place]] = 1
        masks.append(coco_mask.encode(mask) if place != "." else None)
    return ScoredTrack(category, masks, score)


def judged(objects: list[ScoredTrack], found: list[ScoredTrack]) -> Any:
    truth = VideoTruth("", NAMES, {1: (8, 16)}, {1: 6}, {1: objects}, True, {1: [f"a/{t}.png" for t in range(6)]})
    return judge_clips(truth, {1: found})


def test_timelines_by_hand() -> None:
    objects = [track("LLLLLL", 3), track("RRRR..", 7)]
    found = [
        track("LLL...", 3),
        track("....LL", 3, 0.6),
        track(".RRR..", 7),
        track("R.....", 3),
        track("RRRRRR", 7, 0.4),
    ]
    (clip,) = judged(objects, found)
    assert timelines(clip, NAMES) == [
        ("cat 1", [Span("followed", 3, 0, 2), Span("missed", 0, 3, 3), Span("followed", 4, 4, 5, True)]),
        ("<dog> 2", [Span("missed", 0, 0, 0), Span("followed", 2, 1, 3), Span("absent", 0, 4, 5)]),
        ("cat, no object", [Span("alone", 6, 0, 0), Span("absent", 0, 1, 5)]),
    ]
    # Of the cat's 48 columns of pixels, half are in the first track: not above 0.5. Of the dog's, three quarters.
    assert clip.pairs == [(1, 2, 0.75)] and clip.quality == pytest.approx(0.75 / 3) and clip.switches == 1
    assert clip.frames == (10, 8) and clip.name == "a"
    counts = by_class([clip], [3, 7])
    assert counts["true"].tolist() == [1, 1] and counts["found"].tolist() == [3, 1]
    assert counts["switches"].tolist() == [1, 0]
    assert counts["precision"].tolist() == [0, 1] and counts["recall"].tolist() == [0, 1]
    assert counts["followed"] == pytest.approx([5 / 6, 3 / 4])


def test_clips_without_objects_or_tracks_are_left_out() -> None:
    assert judged([], []) == []
    (clip,) = judged([], [track("L.....", 3)])
    assert clip.quality == 0 and clip.frames == (0, 0)
    assert np.isnan(by_class([clip], [3, 7])["recall"]).all()


def test_frames_of_a_strip() -> None:
    assert (
        chosen_frames(1) == [0] and chosen_frames(4) == [0, 1, 2, 3] and chosen_frames(101) == [0, 20, 40, 60, 80, 100]
    )


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., tuple[str, dict[str, float]]]:
    """Evaluate what was found, as a list of results, and return the report's text and the scores."""
    file, frames = data.write_youtube_vis(tmp_path)
    name = "videos_of_a_report"
    meta = MetadataCatalog.get(name)
    meta.set(json_file=file, image_root=frames, thing_dataset_id_to_contiguous_id={1: 0, 2: 1}, evaluator_type="ytvis")
    meta.set(thing_classes=["car", "pedestrian"])
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    cfg.DATASETS.TEST, cfg.OUTPUT_DIR, cfg.MODEL.DEVICE = [name], str(tmp_path / "out"), "cpu"
    test = cfg.MODEL.MASK_FORMER.TEST
    test.SEMANTIC_ON, test.PANOPTIC_ON, test.INSTANCE_ON = False, False, True

    def make(results: list[dict[str, Any]]) -> tuple[str, dict[str, float]]:
        evaluator = YTVISEvaluator(name)
        reporting = ReportingEvaluator(cfg, name, evaluator)
        reporting.reset()
        evaluator.add_counts({"predictions": results})
        scores = reporting.evaluate()["segm"]
        return (tmp_path / "out" / "report.html").read_text(), scores

    yield make  # type: ignore[misc]
    MetadataCatalog.remove(name)


def found_tracks() -> list[dict[str, Any]]:
    """Return the truth as a result, but for one track of the first video, which is missed."""
    keys = ("video_id", "category_id", "segmentations")
    tracks = [{key: one[key] for key in keys} | {"score": 0.9} for one in data.youtube_vis()["annotations"]]
    return [tracks[0], *tracks[2:]]


def test_page_shows_tracks_over_time(page: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    text, scores = page(found_tracks())
    assert "The report lacks" not in caplog.text
    whole = Page(text)
    strips = [one for one in all_of(whole, "img") if "data:image/jpeg" in (one["src"] or "")]
    assert len(strips) == 4  # two of each clip
    shown = " ".join(" ".join(whole.texts).split())
    assert "follow the 4 objects in 77.8 % of their 9 masks" in shown and "with 0 identity switches" in shown
    bars = [one.get("class") for one in all_of(whole, "i")]
    # The missed pedestrian's two frames are one bar; the other's have a frame between them, so they are two.
    assert bars.count("missed") == 1 and bars.count("followed") == 4
    assert f"{scores['AP-pedestrian']:.1f}" in shown and "0002" in shown and "0005" in shown
    row = text[text.index('id="class-table"') :]
    assert row.index("followed") > 0 and "tracks</th>" in row


def test_scores_need_no_frames(page: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "images" / "0005" / "000007.png").unlink()
    text, scores = page(found_tracks())
    whole = Page(text)
    assert sum("data:image/jpeg" in (one["src"] or "") for one in all_of(whole, "img")) == 2
    assert "Some frames are not shown" in text and "000007.png" in text and scores["AP-car"] == pytest.approx(100)


def test_a_page_without_any_track(page: Callable[..., Any]) -> None:
    text, _ = page([])
    assert "in <b>0.0 %</b> of their 9 masks" in text
    Page(text)


def test_strips_show_objects_in_their_frames(page: Callable[..., Any]) -> None:
    """The missed pedestrian is painted in the ground truth's second frame, and shows as it is in the prediction's."""
    text, _ = page(found_tracks())
    means = []
    for words in ("ground truth", "prediction"):
        found = re.search(rf'base64,([^"]+)" alt="{words}: frames of 0002"', text)
        assert found
        strip = cv2.imdecode(np.frombuffer(base64.b64decode(found[1]), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
        assert strip.shape == (data.HEIGHT, 4 * data.WIDTH + 3 * 4, 3)
        left, top = data.SQUARES["0002", 1][2001]
        left += data.WIDTH + 4
        means.append(strip[top + 3 : top + 9, left + 3 : left + 9].reshape(-1, 3).mean(0))
    drawn, plain = means
    assert plain == pytest.approx((40, 60, 250), abs=12)  # as it was written
    assert abs(drawn - plain).max() > 40


def test_a_frame_of_another_size_is_not_drawn(page: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "images" / "0005" / "000007.png"
    Image.fromarray(np.zeros((500, 700, 3), np.uint8)).save(file)
    text, scores = page(found_tracks())
    assert "000007.png has 700 x 500 pixels, but a mask in it" in text and scores["AP-car"] == pytest.approx(100)
