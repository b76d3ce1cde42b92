"""Perfect predictions score 100 whatever the annotation file leaves out or states wrongly; what is no ground truth is
named. Stated boxes and areas of official files keep their say, to the last digit."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from square_truth import EXPECTED, NAMES, NUMBER, SIDE, SQUARE, Change, every, perfect, sound, without
from torture import examples

from mask2former.evaluation import average_precision, hotcoco_api
from mask2former.evaluation.average_precision import AveragePrecision
from mask2former.evaluation.instance import InstanceEvaluator
from mask2former.evaluation.instance_truth import truth_of_file
from mask2former.evaluation.rehearsal import rehearse

RUNS = [16 * SIDE + 16, *[24, 40] * 23, 24, 1560]  # the square, column by column


def numbered(name: Callable[[int], Any]) -> Change:
    """Other image ids."""

    def change(content: dict[str, Any]) -> None:
        for one in content["images"]:
            one["id"] = name(one["id"])
        for one in content["annotations"]:
            one["image_id"] = name(one["image_id"])

    return change


def ids(*numbers: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        for one, number in zip(content["annotations"], numbers, strict=False):
            one["id"] = number

    return change


def names(*values: Any) -> Change:
    return lambda content: [one.update(name=v) for one, v in zip(content["categories"], values, strict=True)]


def floats(content: dict[str, Any]) -> None:
    for one in (*content["images"], *content["annotations"], *content["categories"]):
        one.update({key: float(v) for key, v in one.items() if isinstance(v, int)})


def big_category(content: dict[str, Any]) -> None:
    content["categories"][0]["id"] = 2**70
    every(category_id=2**70)(content)
    content["annotations"][-1]["category_id"] = 2**70


HARMLESS: dict[str, Change] = {
    "nothing": lambda content: None,
    "annotation ids from 0": ids(0, 1, 2, 3, 4),
    "annotation ids doubled": ids(1, 1, 1, 1, 1),
    "annotation ids are texts": ids("a", "b", "c", "d", "e"),
    "annotation ids over 2^64": ids(2**64, 2**65, 2**70, 2**80, 2**90),
    "annotation ids negative": ids(-1, -2, -3, -4, -5),
    "no annotation ids": without("id"),
    "no boxes": without("bbox"),
    "no areas": without("area"),
    "neither": without("bbox", "area"),
    "boxes null": every(bbox=None),
    "boxes of x, y, x, y": every(bbox=[16, 16, 40, 40]),
    "boxes of nothing": every(bbox=[0, 0, 0, 0]),
    "boxes negative": every(bbox=[40, 40, -24, -24]),
    "boxes of texts": every(bbox=["16", "16", "24", "24"]),
    "boxes short": every(bbox=[16, 16]),
    "boxes from 0 to 1": every(bbox=[0.25, 0.25, 0.375, 0.375]),
    "boxes infinite": every(bbox=[16, 16, float("inf"), 24]),
    "areas 0": every(area=0),
    "areas negative": every(area=-576),
    "areas huge": every(area=10**12),
    "areas text": every(area="576"),
    "areas nan": every(area=float("nan")),
    "iscrowd null": every(iscrowd=None),
    "iscrowd false": every(iscrowd=False),
    "no iscrowd": lambda content: [one.pop("iscrowd") for one in content["annotations"][:NUMBER]],
    "licenses null": lambda content: content.update(licenses=None, info=None),
    "licenses and info strange": lambda content: content.update(licenses="MIT", info=[1, {"a": None}]),
    "extra keys": every(attributes={"occluded": None}, num_keypoints=None, keypoints=None),
    "image ids are texts": numbered(lambda n: f"picture-{n}"),
    "image ids over 2^64": numbered(lambda n: 2**64 + n),
    "image ids from 0": numbered(lambda n: n - 1),
    "image ids negative": numbered(lambda n: -n),
    "image ids mixed": numbered(lambda n: n if n % 2 else f"{n}"),
    "names are numbers": names(1, 2.5),
    "names are null": names(None, None),
    "names are alike": names("square", "square"),
    "numbers are floats": floats,
    "category ids over 2^64": big_category,
    "list of run lengths": every(segmentation=[{"size": [SIDE, SIDE], "counts": RUNS}]),
    "uncompressed run lengths": every(segmentation={"size": [64.0, 64.0], "counts": [float(n) for n in RUNS]}),
    "a part of two points": every(segmentation=[SQUARE, [1, 1, 2, 2]]),
    "an annotation of a box alone": lambda content: content["annotations"].append(
        {"id": 77, "image_id": 2, "category_id": 3, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
    ),
    "an empty mask": lambda content: content["annotations"].append(
        {"id": 78, "image_id": 2, "category_id": 3, "segmentation": [[1, 1, 1, 1, 1, 1]], "iscrowd": 0}
    ),
    "url and date null": lambda content: [one.update(coco_url=None, date_captured=None) for one in content["images"]],
}  # fmt: skip


@pytest.fixture
def evaluator(tmp_path: Path) -> Iterator[Callable[[Any], InstanceEvaluator]]:
    made: list[str] = []

    def make(content: Any) -> InstanceEvaluator:
        made.append(name := next(NAMES))
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        things = {c["id"]: place for place, c in enumerate(content["categories"])}
        json_file = str(tmp_path / f"{name}.json")
        MetadataCatalog.get(name).set(json_file=json_file, thing_dataset_id_to_contiguous_id=things)
        return InstanceEvaluator(name)

    yield make
    for name in made:
        MetadataCatalog.pop(name)


@pytest.mark.parametrize("fast", [True, False], ids=["hotcoco", "pycocotools"])
@pytest.mark.parametrize("kind", HARMLESS)
def test_perfect_predictions_score_100(
    evaluator: Callable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str, fast: bool
) -> None:
    if fast and hotcoco_api.hotcoco() is None:
        pytest.skip("needs hotcoco")
    if not fast:
        monkeypatch.setattr(average_precision, "hotcoco", lambda: None)
    content = sound()
    HARMLESS[kind](content)
    assert perfect(evaluator(content), content["images"]) == pytest.approx(EXPECTED)
    refusals = [record for record in caplog.records if "hotcoco refuses" in record.message]
    assert len(refusals) == (fast and kind == "category ids over 2^64")  # said once, though two kinds are scored
    assert refusals == [] or refusals[0].levelno == logging.WARNING


def test_what_is_left_out_or_replaced_is_said(evaluator: Callable, caplog: pytest.LogCaptureFixture) -> None:
    content = sound()
    every(bbox=[16, 16, 40, 40])(content)
    HARMLESS["an annotation of a box alone"](content)
    HARMLESS["an empty mask"](content)
    evaluator(content)
    assert "1 annotations without a mask (boxes alone) are left out" in caplog.text
    assert "1 annotations whose mask covers no pixel are left out" in caplog.text
    first = "annotation 1: its box is [16, 16, 40, 40], that of its mask [16.0, 16.0, 24.0, 24.0]"
    assert f"4 faults that masks make up for, the first: {first}" in caplog.text


FAULTS: dict[str, tuple[Change, str]] = {
    "iscrowd '0'": (lambda c: c["annotations"][2].update(iscrowd="0"), "annotation 3: iscrowd is '0'"),
    "iscrowd 7": (lambda c: c["annotations"][2].update(iscrowd=7), "annotation 3: iscrowd is 7"),
    "an unknown category": (lambda c: c["annotations"][2].update(category_id=5), "annotation 3: category 5 is not"),
    "an unknown image": (lambda c: c["annotations"][2].update(image_id=55), "annotation 3: its image 55 is not"),
    "no image": (lambda c: c["annotations"][2].pop("image_id"), "annotation 3: the key 'image_id' is missing"),
    "a text for a mask": (lambda c: c["annotations"][2].update(segmentation="abc"), "annotation 3: found no mask"),
    "a mask of another size": (
        lambda c: c["annotations"][2].update(segmentation={"size": [9, 9], "counts": [81]}),
        r"annotation 3: the mask's size \(height, width\) is \[9, 9\]",
    ),
    "a category twice": (lambda c: c["categories"].append({"id": 3, "name": "b"}), "'categories': the id 3 occurs"),
    "an image twice": (lambda c: c["images"].append(dict(c["images"][0])), "image 1: the id occurs twice"),
    "an image without size": (lambda c: c["images"][1].pop("height"), "image 2: height and width are None"),
    "boxes alone": (without("segmentation"), "none of its 5 annotations has a mask"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_what_is_no_ground_truth_is_named(evaluator: Callable, kind: str) -> None:
    change, said = FAULTS[kind]
    content = sound()
    change(content)
    with pytest.raises(ValueError, match=rf"sound_truth_\d+\.json: {said}"):
        evaluator(content)


def test_a_prediction_of_an_unknown_image_is_named(evaluator: Callable) -> None:
    with pytest.raises(ValueError, match=r"sound_truth_\d+\.json, image 99: it is predicted, but"):
        perfect(evaluator(sound()), [{"id": 99}])


VALUES = [None, True, False, 0, 1, -1, 7, 2.5, 16.0, 2**64, 1e300, float("nan"), "", "0", "a", [], {}, [1, 2], [0] * 4]
FREE = ["id", "bbox", "area", "iscrowd", "category_id", "image_id", "extra"]


@settings(max_examples=examples(120), deadline=None)
@given(data=st.data())
def test_any_damage_but_to_masks_is_named_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Damage sets that Detectron2's own function registers."""
    content = sound()
    for _ in range(data.draw(st.integers(1, 4))):
        entry = data.draw(st.sampled_from(content["annotations"][:NUMBER]))
        entry[data.draw(st.sampled_from(FREE))] = data.draw(st.sampled_from(VALUES))
    before = {(one["image_id"], one["category_id"]) for one in sound()["annotations"]}
    name, file = next(NAMES), tmp_path_factory.mktemp("damage") / "truth.json"
    file.write_text(json.dumps(content))
    register_coco_instances(name, {}, str(file), str(file.parent))
    MetadataCatalog.get(name).set(thing_dataset_id_to_contiguous_id={3: 0, 8: 1})
    try:
        scorer = InstanceEvaluator(name)
        if any(one.get("iscrowd") for one in content["annotations"][:NUMBER]):
            return  # a crowd is not to be found
        if {(one["image_id"], one["category_id"]) for one in content["annotations"]} != before:
            return  # another object is to be found
        assert perfect(scorer, content["images"]) == pytest.approx(EXPECTED)
    except ValueError as error:
        assert str(error).startswith(f"{file}: ")
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_official_files_keep_their_boxes_and_areas(data_root: Path) -> None:
    """COCO's, whose crowds state other areas than those of their masks: pycocotools alone is the oracle."""
    folder = data_root / "coco_eval"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    file = str(folder / "instances_val2014_100.json")
    with contextlib.redirect_stdout(io.StringIO()):
        official = COCO(file)
    score = AveragePrecision(truth_of_file(file).coco, file)
    for kind in ("bbox", "segm"):
        results = json.loads((folder / f"instances_val2014_fake{kind}100_results.json").read_text())
        ours = score(results, kind)
        with contextlib.redirect_stdout(io.StringIO()):
            theirs = COCOeval(official, official.loadRes(results), kind)
            theirs.evaluate()
            theirs.accumulate()
            theirs.summarize()
        assert np.array_equal(np.asarray(ours.stats), theirs.stats)


def test_a_rehearsal_scores_nothing_and_leaves_nothing(evaluator: Callable) -> None:
    content = sound()
    scorer = evaluator(content)
    records = [{**one, "image_id": one["id"]} for one in content["images"]]
    rehearse(scorer, lambda: records)
    assert perfect(scorer, content["images"]) == pytest.approx(EXPECTED)
    with pytest.raises(ValueError, match=r"image 5: it is predicted, but the ground truth has no image"):
        rehearse(scorer, lambda: [{"image_id": 5, "file_name": "a.png", "height": SIDE, "width": SIDE}])
    with pytest.raises(ValueError, match=r"\(60, 64\), that of the file's image \(64, 64\)"):
        rehearse(scorer, lambda: [{**records[0], "height": 60}])
