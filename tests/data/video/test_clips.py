"""Videos: their files, and the clips that training and inference get."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode, get_cfg
from small_videos import HEIGHT, LENGTH, WIDTH, content, write

from mask2former import YTVISDatasetMapper, add_maskformer2_config
from mask2former.data.datasets.videos import read_video_instances
from mask2former.data.mapper.frame_sampling import FrameSampling

IDS = {3: 0, 7: 1}


def configuration(**inputs: Any) -> CfgNode:
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.FORMAT = (HEIGHT,), HEIGHT, "RGB"
    cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING, cfg.INPUT.RANDOM_FLIP = "choice_by_clip", "flip_by_clip"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2
    for key, value in inputs.items():
        cfg.INPUT[key] = value
    return cfg


def test_records(tmp_path: Path) -> None:
    first, second = read_video_instances(*write(tmp_path), IDS)
    assert first["length"] == LENGTH and first["video_id"] == 1 and second["length"] == 1
    assert first["file_names"] == [str(tmp_path / "frames" / "1" / f"{t}.png") for t in range(LENGTH)]
    seen = [[(one["id"], one["category_id"], one["iscrowd"]) for one in frame] for frame in first["annotations"]]
    assert seen[0] == [(11, 1, 0), (13, 0, 1)] and seen[3] == [(11, 1, 0), (12, 0, 0), (13, 0, 1)]
    without = {key: value for key, value in content().items() if key != "annotations"}
    assert "annotations" not in read_video_instances(*write(tmp_path, without), IDS)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["videos"][0]["file_names"].__setitem__(2, "../../secret.png"), "video 1.*leads out of"),
        (lambda c: c["videos"][0].__setitem__("length", 9), "video 1: its length is 9, but it has 6 file_names"),
        (lambda c: c["videos"][1].__setitem__("id", 1), "video 1: the id occurs twice"),
        (lambda c: c["annotations"][0]["segmentations"].pop(), "annotation 11: 'segmentations' has to list one entry"),
        (lambda c: c["annotations"][1].__setitem__("id", 11), "annotation 11: the id occurs twice"),
        (lambda c: c["annotations"][0].__setitem__("video_id", 5), "annotation 11: its video 5 is not listed"),
        (lambda c: c["annotations"][0].__setitem__("category_id", 5), "annotation 11: category 5 is not one"),
        (lambda c: c["annotations"][0].__setitem__("iscrowd", 4), "annotation 11: iscrowd is 4"),
    ],
)
def test_faults_are_named(tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    changed = content()
    change(changed)
    with pytest.raises(ValueError, match=message):
        read_video_instances(*write(tmp_path, changed), IDS)


def test_frames_are_near_the_reference_and_in_order() -> None:
    np.random.seed(0)
    drawn = [FrameSampling(3, 4, False)(30) for _ in range(2000)]
    assert all(frames == sorted(frames) for frames in drawn)
    assert all(any(set(frames) <= set(range(r - 4, r + 5)) for r in frames) for frames in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=30)
    assert counts.min() > 0 and counts[10:20].std() < 0.15 * counts[10:20].mean()
    assert any(frames != sorted(frames) for frames in (FrameSampling(3, 4, True)(30) for _ in range(50)))
    assert FrameSampling(2, 4, False)(1) == [0, 0]  # the published one fails
    assert FrameSampling(1, 4, False)(5)[0] in range(5)
    assert all(len(set(FrameSampling(2, 4, False)(5))) == 2 for _ in range(50))  # never the reference again


def test_all_frames_are_changed_alike(tmp_path: Path) -> None:
    """Columns are numbered in the images, so that crop and flip can be read off; masks lie where their pixels are."""
    record = read_video_instances(*write(tmp_path), IDS)[0]
    cfg = configuration(SAMPLING_FRAME_NUM=3)
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", (30, 40)
    cfg.INPUT.MIN_SIZE_TRAIN = (30,)
    mapper = YTVISDatasetMapper(cfg)
    flipped = set()
    for seed in range(12):
        np.random.seed(seed)
        result = mapper(record)
        rows = [image[0, 0].tolist() for image in result["image"]]
        assert len(rows) == 3 and rows[0] == rows[1] == rows[2]
        step = rows[0][1] - rows[0][0]
        assert rows[0] == list(range(rows[0][0], rows[0][0] + 40 * step, step))
        flipped.add(step)
        for frame, instances in zip(result["frames"], result["instances"], strict=True):
            for category, mask in zip(instances.gt_classes.tolist(), instances.gt_masks.tensor, strict=True):
                columns = sorted({rows[0][x] for x in mask.any(0).nonzero().flatten().tolist()})
                start, side = (5 + 4 * frame, 12) if category == 1 else (40, 8)
                assert set(columns) <= set(range(start, start + side))
    assert flipped == {1, -1}


def test_an_object_has_a_row_and_its_class_in_every_frame(tmp_path: Path) -> None:
    record = read_video_instances(*write(tmp_path), IDS)[0]
    mapper = YTVISDatasetMapper(configuration(SAMPLING_FRAME_NUM=6, RANDOM_FLIP="none"))
    np.random.seed(1)
    for _ in range(10):
        result = mapper(record)
        shown = [{1} if frame < 3 else {0, 1} for frame in result["frames"]]
        for instances, wanted in zip(result["instances"], shown, strict=True):
            assert instances.gt_classes.tolist() == result["instances"][0].gt_classes.tolist()
            seen = instances.gt_masks.tensor.flatten(1).any(1)
            assert {int(c) for c in instances.gt_classes[seen]} == wanted  # never the crowd
            assert ((instances.gt_ids >= 0) == seen).all()
        assert set(result["instances"][0].gt_classes.tolist()) == set().union(*shown)


def test_inference_gets_the_whole_video(tmp_path: Path) -> None:
    record = read_video_instances(*write(tmp_path), IDS)[0]
    result = YTVISDatasetMapper(configuration(), is_train=False)(record)
    assert [tuple(image.shape) for image in result["image"]] == [(3, HEIGHT, WIDTH)] * LENGTH
    assert "instances" not in result and (result["height"], result["width"]) == (HEIGHT, WIDTH)


def test_settings_and_files_that_do_not_fit(tmp_path: Path) -> None:
    record = read_video_instances(*write(tmp_path), IDS)[0]
    for key, value in (("MIN_SIZE_TRAIN_SAMPLING", "once"), ("AUGMENTATIONS", ["fog"]), ("SAMPLING_FRAME_NUM", 0)):
        with pytest.raises(ValueError, match=key):
            YTVISDatasetMapper(configuration(**{key: value}))
    (tmp_path / "frames/1/3.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1/3\.png"):
        YTVISDatasetMapper(configuration(), is_train=False)(record)
