"""hotcoco's scores are the official ones to the last bit: on published results and on random ones."""

import importlib
import json
import sys

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from mask2former.evaluation import average_precision, hotcoco_api
from mask2former.evaluation.average_precision import AveragePrecision

needs_hotcoco = pytest.mark.skipif(hotcoco_api.hotcoco() is None, reason="needs hotcoco")
EXAMPLES = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
SEEDS = st.integers(0, 2**32 - 1)


def both(monkeypatch, module, call):
    """What ``call`` gives with hotcoco and without."""
    quick = call()
    with monkeypatch.context() as patch:
        patch.setattr(module, "hotcoco", lambda: None)
        official = call()
    return quick, official


def assert_same_evaluation(quick, official):
    assert type(quick).__module__ != type(official).__module__  # two programs, not one
    assert np.array_equal(quick.stats, official.stats)
    for name in ("precision", "recall", "scores"):
        assert np.array_equal(np.asarray(quick.eval[name]), official.eval[name])


@needs_hotcoco
@pytest.mark.parametrize(("kind", "published"), [("segm", [0.320, 0.562, 0.299]), ("bbox", [0.505, 0.697, 0.573])])
@pytest.mark.parametrize("limit", [100, 300, 5])
def test_average_precision_of_published_results(data_root, monkeypatch, kind, published, limit):
    folder = data_root / "coco_eval"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    results = json.loads((folder / f"instances_val2014_fake{kind}100_results.json").read_text())
    path = str(folder / "instances_val2014_100.json")

    def score():
        return AveragePrecision(COCO(path), path)(results, kind, [1, 10, limit] if limit > 10 else [1, 2, limit])

    quick, official = both(monkeypatch, average_precision, score)
    assert_same_evaluation(quick, official)
    if limit == 100:
        assert quick.stats[:3] == pytest.approx(published, abs=0.0005)


def draw_instances(rng, path):
    """Rectangles with crowds, ties of scores and boxes of all of COCO's sizes; results near them and elsewhere."""
    height, width = 150, 180
    images = [{"id": int(i), "height": height, "width": width} for i in rng.choice(50, 4, replace=False)]
    categories = [{"id": int(i), "name": str(i)} for i in rng.choice(20, 3, replace=False)]
    truths, results = [], []

    def shape(mask):
        rle = mask_util.encode(np.asfortranarray(mask))
        box = [float(v) for v in mask_util.toBbox(rle)]
        return {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}, "bbox": box}

    def rectangle():
        mask = np.zeros((height, width), np.uint8)
        y, x = rng.integers(0, (height - 4, width - 4))
        h, w = rng.integers(2, (130, 130)) if rng.random() < 0.3 else rng.integers(2, 50, 2)
        mask[y : y + h, x : x + w] = 1
        return mask

    for image in images:
        for _ in range(rng.integers(0, 7)):
            mask, category = rectangle(), int(rng.choice([c["id"] for c in categories]))
            common = {"image_id": image["id"], "category_id": category}
            truths.append(
                {
                    **common,
                    **shape(mask),
                    "id": len(truths) + 1,
                    "area": int(mask.sum()),
                    "iscrowd": int(rng.random() < 0.15),
                }
            )
            for _ in range(rng.integers(0, 3)):
                moved = np.roll(mask, rng.integers(-3, 4, 2), (0, 1))
                results.append({**common, **shape(moved), "score": float(rng.integers(0, 8)) / 8})
        for _ in range(rng.integers(1, 4)):
            category = int(rng.choice([c["id"] for c in categories]))
            guess = {"image_id": image["id"], "category_id": category, "score": float(rng.random())}
            results.append({**guess, **shape(rectangle())})
    path.write_text(json.dumps({"images": images, "annotations": truths, "categories": categories}))
    return results


@needs_hotcoco
@EXAMPLES
@given(seed=SEEDS, kind=st.sampled_from(["segm", "bbox"]), limit=st.sampled_from([3, 100, 300]))
def test_average_precision_of_random_results(tmp_path, monkeypatch, seed, kind, limit):
    path = tmp_path / "truth.json"
    results = draw_instances(np.random.default_rng(seed), path)
    limits = [1, 2, limit]
    quick, official = both(
        monkeypatch, average_precision, lambda: AveragePrecision(COCO(str(path)), str(path))(results, kind, limits)
    )
    assert_same_evaluation(quick, official)


@pytest.mark.parametrize("there", [True, False])
def test_the_choice_is_said_once(monkeypatch, caplog, there):
    if there and hotcoco_api.hotcoco() is None:
        pytest.skip("needs hotcoco")
    if not there:
        monkeypatch.setitem(sys.modules, "hotcoco", None)
    module = importlib.util.module_from_spec(hotcoco_api.__spec__)
    hotcoco_api.__spec__.loader.exec_module(module)
    caplog.set_level("INFO")
    found = [module.hotcoco() for _ in range(3)]
    assert all((one is not None) == there for one in found)
    assert len(caplog.records) == 1
    assert ("computed by hotcoco" if there else "computed by pycocotools") in caplog.text
