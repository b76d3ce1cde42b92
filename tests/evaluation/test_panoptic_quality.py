"""Panoptic quality against panopticapi and hotcoco, and the evaluator around it."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOPanopticEvaluator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from panopticapi.evaluation import pq_compute
from panopticapi.utils import id2rgb
from PIL import Image

from mask2former.data.images.read import read_panoptic_ids
from mask2former.evaluation import hotcoco_api
from mask2former.evaluation.panoptic import GROUPS, PanopticEvaluator
from mask2former.evaluation.panoptic_quality import Tally, panoptic_quality, tally_image

EXAMPLES = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
SEEDS = st.integers(0, 2**32 - 1)


def draw_panoptic(rng, folder, image_ids):
    """(truth, results) as COCO panoptic files with their images; segments, crowds, void; some results moved."""
    size = 48
    categories = [{"id": 3 * i + 2, "name": str(i), "isthing": i % 2} for i in range(6)]
    files = {"truth": [], "results": []}
    for name in files:
        (folder / name).mkdir(exist_ok=True)
    for number, image_id in enumerate(image_ids):
        labels = np.repeat(np.repeat(rng.integers(0, 9, (3, 3)), 16, 0), 16, 1)  # 0 is void
        kinds = rng.integers(0, 6, 9)
        for name, annotations in files.items():
            drawn = labels.copy()
            for _ in range(3):
                y, x = rng.integers(0, size - 8, 2)
                drawn[y : y + rng.integers(2, 24), x : x + rng.integers(2, 24)] = rng.integers(0, 9)
            ids = drawn * 300
            segments = [
                {
                    "id": int(label) * 300,
                    "category_id": categories[int(kinds[label] if rng.random() < 0.9 else rng.integers(0, 6))]["id"],
                    "iscrowd": int(rng.random() < 0.1),
                    "area": int((drawn == label).sum()),
                }
                for label in np.unique(drawn)
                if label
            ]
            Image.fromarray(id2rgb(ids)).save(folder / name / f"{number}.png")
            annotations.append({"image_id": image_id, "file_name": f"{number}.png", "segments_info": segments})
    images = [{"id": i, "file_name": f"{n}.png", "height": size, "width": size} for n, i in enumerate(image_ids)]
    return tuple(
        {"images": images, "annotations": annotations, "categories": categories} for annotations in files.values()
    )


def official(folder, truth, results):
    for name, content in (("truth", truth), ("results", results)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    files = (str(folder / "truth.json"), str(folder / "results.json"))
    with contextlib.redirect_stdout(io.StringIO()):
        return pq_compute(*files, gt_folder=str(folder / "truth"), pred_folder=str(folder / "results"))


@EXAMPLES
@given(seed=SEEDS, named=st.booleans())
def test_random_images(tmp_path, monkeypatch, seed, named):
    """To the last bit. panopticapi adds up the IoU of each share of the images and then the shares, one for each
    processor, so its own last bit depends on the machine; ours and hotcoco's is that of one share an image.
    """
    ids = ["ADE_val_7", "b", "a"] if named else [7, 90000, 3]
    truth, results = draw_panoptic(np.random.default_rng(seed), tmp_path, ids)
    monkeypatch.setattr("panopticapi.evaluation.multiprocessing.cpu_count", lambda: len(ids))
    tallies = [
        tally_image(
            read_panoptic_ids(str(tmp_path / "truth" / a["file_name"])),
            a["segments_info"],
            read_panoptic_ids(str(tmp_path / "results" / b["file_name"])),
            b["segments_info"],
        )
        for a, b in zip(truth["annotations"], results["annotations"], strict=True)
    ]
    ours, theirs = panoptic_quality(tallies, truth["categories"]), official(tmp_path, truth, results)
    for name in GROUPS:
        assert ours[name] == theirs[name]
    if not named and hotcoco_api.hotcoco():
        folders = {"gt_folder": str(tmp_path / "truth"), "pred_folder": str(tmp_path / "results")}
        evaluation = pytest.importorskip("hotcoco.panoptic").PanopticEval(truth, results, **folders)
        evaluation.evaluate()
        assert all(evaluation.results()[name] == ours[name] for name in GROUPS)


@pytest.fixture
def dataset(tmp_path):
    """(truth, results) of a registered data set "pq_test"."""
    truth, results = draw_panoptic(np.random.default_rng(1), tmp_path, [4, 2, 9])
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    things = {c["id"]: 20 - i for i, c in enumerate(truth["categories"]) if c["isthing"]}
    stuff = {c["id"]: i for i, c in enumerate(truth["categories"]) if not c["isthing"]}
    MetadataCatalog.get("pq_test").set(
        panoptic_json=str(tmp_path / "truth.json"),
        panoptic_root=str(tmp_path / "truth"),
        thing_dataset_id_to_contiguous_id=things,
        stuff_dataset_id_to_contiguous_id=stuff,
        label_divisor=1000,
    )
    yield truth, results
    MetadataCatalog.pop("pq_test")


def outputs_of(folder, annotation):
    meta = MetadataCatalog.get("pq_test")
    things, stuff = meta.thing_dataset_id_to_contiguous_id, meta.stuff_dataset_id_to_contiguous_id
    ids = read_panoptic_ids(str(folder / "results" / annotation["file_name"])).astype(np.int32)
    segments = [
        {"id": s["id"], "isthing": s["category_id"] in things, "category_id": {**things, **stuff}[s["category_id"]]}
        for s in annotation["segments_info"]
    ]
    return {"panoptic_seg": (torch.from_numpy(ids), segments)}


def score(evaluator, folder, annotations):
    evaluator.reset()
    for annotation in annotations:
        one = {"image_id": annotation["image_id"], "file_name": f"/x/{annotation['file_name'][:-4]}.jpg"}
        evaluator.process([one], [outputs_of(folder, annotation)])
    return evaluator.evaluate()


def test_evaluator_gives_detectron2s_scores_and_file(dataset, tmp_path):
    _, results = dataset
    pairs = [(PanopticEvaluator, "ours"), (COCOPanopticEvaluator, "theirs")]
    ours, theirs = (score(kind("pq_test", str(tmp_path / n)), tmp_path, results["annotations"]) for kind, n in pairs)
    assert ours["panoptic_seg"] == pytest.approx(theirs["panoptic_seg"], abs=1e-12)
    assert 5 < ours["panoptic_seg"]["PQ"] < 95
    files = [json.loads((tmp_path / name / "predictions.json").read_text()) for _, name in pairs]
    assert files[0] == files[1]
    assert not (tmp_path / "ours" / "panoptic").exists()


def test_the_order_of_images_changes_nothing(dataset, tmp_path):
    annotations = dataset[1]["annotations"]
    first, second = (score(PanopticEvaluator("pq_test"), tmp_path, some) for some in (annotations, annotations[::-1]))
    assert first == second


def test_images_are_written_if_wished(dataset, tmp_path):
    _, results = dataset
    score(PanopticEvaluator("pq_test", str(tmp_path / "out"), write_images=True), tmp_path, results["annotations"])
    for annotation in results["annotations"]:
        name = annotation["file_name"]
        written, given_ = (read_panoptic_ids(str(tmp_path / f / name)) for f in ("out/panoptic", "results"))
        np.testing.assert_array_equal(written, given_)
    with pytest.raises(ValueError, match="needs an output_dir"):
        PanopticEvaluator("pq_test", write_images=True)


def test_outputs_are_not_changed(dataset, tmp_path):
    output = outputs_of(tmp_path, dataset[1]["annotations"][0])
    before = [dict(segment) for segment in output["panoptic_seg"][1]]
    evaluator = PanopticEvaluator("pq_test")
    evaluator.reset()
    evaluator.process([{"image_id": 4, "file_name": "0.jpg"}], [output])
    assert output["panoptic_seg"][1] == before


def test_an_image_without_prediction_is_an_error(dataset, tmp_path):
    with pytest.raises(ValueError, match="2 images have no panoptic prediction, the first with image_id 2"):
        score(PanopticEvaluator("pq_test"), tmp_path, dataset[1]["annotations"][:1])


def test_no_ground_truth_scores_nothing(dataset, tmp_path, caplog):
    truth, results = dataset
    (tmp_path / "truth.json").write_text(json.dumps({k: v for k, v in truth.items() if k != "annotations"}))
    caplog.set_level("INFO")
    evaluator = PanopticEvaluator("pq_test", str(tmp_path / "out"))
    assert score(evaluator, tmp_path, results["annotations"]) == {}
    assert "no annotations" in caplog.text and (tmp_path / "out" / "predictions.json").exists()


def test_models_that_give_categories_by_label_divisor(dataset, tmp_path):
    """As Panoptic-DeepLab does; the same as with segments."""
    scores = []
    for by_divisor in (False, True):
        evaluator = PanopticEvaluator("pq_test")
        evaluator.reset()
        for annotation in dataset[1]["annotations"]:
            output = outputs_of(tmp_path, annotation)
            if by_divisor:
                ids, segments = output["panoptic_seg"]
                labels = torch.full_like(ids, -1)
                for number, segment in enumerate(segments):
                    labels[ids == segment["id"]] = segment["category_id"] * 1000 + number
                output = {"panoptic_seg": (labels, None)}
            evaluator.process([{"image_id": annotation["image_id"], "file_name": "a.jpg"}], [output])
        scores.append(evaluator.evaluate())
    assert scores[0] == scores[1]


SEGMENT = {"id": 5, "category_id": 1, "area": 4, "iscrowd": 0}


@pytest.mark.parametrize(
    ("predicted", "segments", "message"),
    [
        (np.full((2, 2), 6), [{"id": 5, "category_id": 1}], r"has the ids \[6\].*segments \[5\]"),
        (np.full((2, 2), 6), [], "has the ids"),
        (np.zeros((2, 2), int), [{"id": 5, "category_id": 1}], "has the ids"),
        (np.zeros((2, 3), int), [], r"\(2, 3\).*\(2, 2\)"),
    ],
)
def test_predictions_that_contradict_themselves(predicted, segments, message):
    with pytest.raises(ValueError, match=message):
        tally_image(np.full((2, 2), 5), [SEGMENT], predicted, segments)


def test_by_hand():
    truth = np.array([[5, 5, 5, 0], [5, 7, 7, 7]])
    predicted = np.array([[1, 1, 1, 1], [2, 2, 2, 2]])
    segments = [SEGMENT, {"id": 7, "category_id": 1, "area": 3, "iscrowd": 0}]
    found = tally_image(truth, segments, predicted, [{"id": 1, "category_id": 1}, {"id": 2, "category_id": 3}])
    # Segment 1 covers three of four pixels and one that is void, which does not count: IoU 3/4.
    assert found == {1: Tally(0.75, 1, 0, 1), 3: Tally(0.0, 0, 1, 0)}
    scores = panoptic_quality([found], [{"id": 1, "isthing": 1}, {"id": 3, "isthing": 0}, {"id": 4, "isthing": 0}])
    assert scores["Things"] == {"pq": 0.5, "sq": 0.75, "rq": 1 / 1.5, "n": 1}
    assert scores["Stuff"] == {"pq": 0.0, "sq": 0.0, "rq": 0.0, "n": 1}
    assert scores["All"]["n"] == 2
