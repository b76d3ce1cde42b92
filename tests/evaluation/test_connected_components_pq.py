"""Segments of a semantic prediction against a flood fill in plain Python, and their scores against ones by hand."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mask2former.evaluation.connected_components_pq import SemanticPanopticEvaluator, segments_of

PERSON, GRASS = 70, 80  # category ids


def slow_segments(labels, things):
    """{(class, frozenset of pixels)}."""
    left = {(int(y), int(x)) for y, x in np.ndindex(labels.shape)}
    found = set()
    while left:
        start = left.pop()
        category, part, border = int(labels[start]), {start}, [start]
        while border:
            y, x = border.pop()
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in left and labels[near] == category:
                    left.remove(near)
                    part.add(near)
                    border.append(near)
        found.add((category, frozenset(part)))
    stuff = {c: frozenset().union(*(p for k, p in found if k == c)) for c, _ in found if c not in things}
    return {(c, p) for c, p in found if c in things} | set(stuff.items())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_segments_of_random_labels(seed):
    labels = np.random.default_rng(seed).integers(0, 4, (7, 9))
    things = {1, 3}
    ids, segments = segments_of(labels, things)
    assert ids.dtype == np.int32
    assert [s["id"] for s in segments] == list(range(1, len(segments) + 1))
    assert all(s["isthing"] is (s["category_id"] in things) for s in segments)
    found = {(s["category_id"], frozenset(map(tuple, np.argwhere(ids == s["id"]).tolist()))) for s in segments}
    assert found == slow_segments(labels, things)
    assert ids.min() == 1


@pytest.fixture
def garden(tmp_path):
    """A registered image of 10x10 pixels: two people who touch, one apart, and grass. Returns (name, [H, W] ids)."""
    ids = np.full((10, 10), 4, np.uint8)
    ids[:4, :4], ids[:4, 4:8], ids[6:, 6:] = 1, 2, 3
    (tmp_path / "truth").mkdir()
    Image.fromarray(np.stack([ids, 0 * ids, 0 * ids], -1)).save(tmp_path / "truth/a.png")
    segments = [
        {"id": i, "category_id": PERSON if i < 4 else GRASS, "iscrowd": 0, "area": int((ids == i).sum())}
        for i in (1, 2, 3, 4)
    ]
    content = {
        "images": [{"id": 5, "file_name": "a.jpg", "height": 10, "width": 10}],
        "annotations": [{"image_id": 5, "file_name": "a.png", "segments_info": segments}],
        "categories": [{"id": PERSON, "name": "person", "isthing": 1}, {"id": GRASS, "name": "grass", "isthing": 0}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    name = "segments_garden"
    MetadataCatalog.get(name).set(
        panoptic_json=str(tmp_path / "truth.json"),
        panoptic_root=str(tmp_path / "truth"),
        thing_dataset_id_to_contiguous_id={PERSON: 0},
        stuff_dataset_id_to_contiguous_id={PERSON: 0, GRASS: 1},
    )
    yield name, ids
    MetadataCatalog.pop(name)


@pytest.mark.parametrize("folder", [None, "out"])
def test_scores_of_a_perfect_semantic_prediction(garden, tmp_path, folder):
    """The two who touch are one segment of 32 pixels, which is half of each: no match, for more than half is asked."""
    name, ids = garden
    evaluator = SemanticPanopticEvaluator(name, folder and str(tmp_path / folder))
    evaluator.reset()
    scores = torch.stack([torch.from_numpy(ids < 4), torch.from_numpy(ids == 4)]).float()
    evaluator.process([{"file_name": "a.jpg", "image_id": 5}], [{"sem_seg": scores}])
    results = evaluator.evaluate()
    assert list(results) == ["panoptic_seg_semantic"]
    people = 1 / (1 + 1 / 2 + 2 / 2)  # one found, one segment too many, two missed
    found = results["panoptic_seg_semantic"]
    assert found["PQ_th"] == pytest.approx(100 * people) and found["SQ_th"] == pytest.approx(100)
    assert found["PQ_st"] == pytest.approx(100)
    assert found["PQ"] == pytest.approx(100 * (people + 1) / 2)
    assert (tmp_path / "out/predictions.json").exists() is (folder is not None)


def test_scores_of_a_shifted_prediction(garden):
    """The one apart is seen a column to the left: 12 of 20 pixels in common. The grass has 48 of 56."""
    name, ids = garden
    labels = (ids == 4).astype(np.int64)
    labels[6:, 6:], labels[6:, 5:9] = 1, 0
    evaluator = SemanticPanopticEvaluator(name, None)
    evaluator.reset()
    evaluator.process(
        [{"file_name": "a.jpg", "image_id": 5}],
        [{"sem_seg": torch.nn.functional.one_hot(torch.from_numpy(labels)).permute(2, 0, 1).float()}],
    )
    found = evaluator.evaluate()["panoptic_seg_semantic"]
    assert found["SQ_th"] == pytest.approx(100 * 12 / 20)
    assert found["PQ_th"] == pytest.approx(100 * 12 / 20 / (1 + 1 / 2 + 2 / 2))
    assert found["PQ_st"] == pytest.approx(100 * 48 / 56)
