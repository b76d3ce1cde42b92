"""The parts of a result, its ids, and results at another threshold."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageShow
from pycocotools import mask as coco_mask

from mask2former import Predictor
from mask2former.predictor import Result


def same_objects(one: Result, other: Result) -> bool:
    return np.array_equal(one.instances.scores, other.instances.scores) and np.array_equal(
        one.instances.masks, other.instances.masks
    )


def test_ids_are_those_of_the_coco_file(predictor: Predictor, image: np.ndarray) -> None:
    """Parts, segments and COCO's entries say the same under the same keys, in each task."""
    result = predictor(image)
    content = {task: result.to_coco(task) for task in predictor.tasks}
    (entry,) = content["panoptic"]["annotations"]
    assert len(entry["segments_info"]) == len(result.segments) > 1
    for theirs, ours in zip(entry["segments_info"], result.segments, strict=True):
        for key in ("id", "category_id", "area", "isthing"):
            assert theirs[key] == ours[key]
    known = predictor.metadata.stuff_dataset_id_to_contiguous_id
    assert any(known[one] != one for one in known), "or the two kinds of numbers cannot be told apart"
    for segment in result.segments:
        assert known[segment["category_id"]] == segment["class_id"]
        assert predictor.names[segment["class_id"]] == segment["name"]
    for task in ("instance", "semantic"):
        parts = result.parts(task)
        assert len(parts) == len(content[task]["annotations"]) > 1
        for part, theirs in zip(parts, content[task]["annotations"], strict=True):
            assert part.category_id == theirs["category_id"] and part.area == theirs["area"]
            assert np.array_equal(coco_mask.decode(theirs["segmentation"]).astype(bool), part.mask)


def test_a_result_is_a_sequence_of_its_parts(folder: Path, predictor: Predictor, image: np.ndarray) -> None:
    result = predictor(image)
    parts = list(result)
    assert len(result) == len(parts) == len(result.segments) > 1
    for part, segment in zip(parts, result.segments, strict=True):
        assert np.array_equal(part.mask, result.panoptic == segment["id"]) and part.area == part.mask.sum()
        ys, xs = np.nonzero(part.mask)
        assert part.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert part.score is None and part.track_id is None
    found = Predictor(folder, tasks=["instance"], threshold=0.01)(image)
    assert [part.score for part in found] == found.instances.scores.tolist() and len(found) == len(found.instances)
    assert [part.class_id for part in found] == found.instances.classes.tolist()
    classes = Predictor(folder, tasks=["semantic"])(image)
    assert [part.class_id for part in classes] == np.unique(classes.semantic).tolist()
    assert len(classes) == len(list(classes)) and sum(part.area for part in classes) == classes.semantic.size
    nothing = predictor(image, threshold=1.0)
    assert len(nothing) == 0 and list(nothing) == []
    assert nothing, "a result without parts is one too"


def test_threshold_of_a_call(folder: Path, predictor: Predictor, image: np.ndarray) -> None:
    usual = predictor(image)
    scores = usual.instances.scores
    middle = float(np.median(scores))
    chosen = predictor(image, threshold=middle)
    assert 0 < len(chosen.instances) == (scores >= middle).sum() < len(scores)
    assert same_objects(predictor([image], threshold=middle)[0], chosen)
    assert same_objects(next(predictor.stream([image], threshold=middle)), chosen)
    assert same_objects(predictor(image), usual), "the predictor's own stays"
    for call in (predictor, predictor.stream):
        with pytest.raises(ValueError, match=r"threshold is 1\.5"):
            call([image], threshold=1.5)


def test_results_of_lists_at_another_threshold(folder: Path, predictor: Predictor, image: np.ndarray) -> None:
    """The network's output is gone, so it runs again, and gives what it would have."""
    turned = np.ascontiguousarray(image[::-1])
    for tile in (None, 48):
        other = Predictor(folder, threshold=0.01, tile=tile, overlap=16)
        kept = [other(one) for one in (image, turned)]
        middle = float(np.median(kept[0].instances.scores))
        for one, result in zip(kept, other([image, turned]), strict=True):
            expected, found = one.at_threshold(middle), result.at_threshold(middle)
            assert same_objects(found, expected)
            assert np.array_equal(found.panoptic, expected.panoptic) and found.segments == expected.segments
            assert np.array_equal(found.semantic, expected.semantic)
    with pytest.raises(ValueError, match=r"threshold is -1"):
        predictor(image).at_threshold(-1)


def test_a_marked_region_stays_marked(predictor: Predictor, image: np.ndarray) -> None:
    mask = np.zeros(image.shape[:2], bool)
    mask[8:40, 8:40] = True
    result = predictor(image, mask)
    expected = result.at_threshold(0.1)
    found = result.compute().at_threshold(0.1)
    assert np.array_equal(found.panoptic, expected.panoptic) and not found.panoptic[~mask].any()


def test_results_travel_without_their_model(predictor: Predictor, image: np.ndarray) -> None:
    result = predictor([image])[0]
    content = pickle.dumps(result)
    size = sum(parameter.numel() * parameter.element_size() for parameter in predictor.model.parameters())
    assert len(content) < size
    back = pickle.loads(content)
    assert back.segments == result.segments and same_objects(back, result)
    with pytest.raises(ValueError, match=r"in another process: call at_threshold\(\) before"):
        back.at_threshold(0.5)


def test_showing_without_a_window(
    predictor: Predictor, image: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    result = predictor(image)
    file = result.show("semantic", "masks", legend=False)
    assert file is not None and str(file) in capsys.readouterr().out
    assert np.array_equal(np.array(Image.open(file)), result.draw("semantic", "masks"))


def test_showing_in_a_window(predictor: Predictor, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    shown = []

    def show(drawn: Image.Image, title: str) -> bool:
        shown.append(np.array(drawn))
        return True

    monkeypatch.setattr(ImageShow, "show", show)
    result = predictor(image)
    assert result.show() is None
    assert np.array_equal(shown[0], result.draw(legend=True))
