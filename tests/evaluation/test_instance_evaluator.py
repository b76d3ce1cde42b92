"""Average precision for any numbering of classes, against pycocotools itself and COCO's published figures."""

import contextlib
import io
import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mask2former.evaluation.instance import InstanceEvaluator

SIZE = 40


@pytest.fixture
def register(tmp_path):
    names = []

    def make(name, json_file, things):
        names.append(name)
        MetadataCatalog.get(name).set(json_file=str(json_file), thing_dataset_id_to_contiguous_id=things)
        return name

    yield make
    for name in names:
        MetadataCatalog.pop(name)


def instances(masks, scores, classes):
    masks = torch.as_tensor(np.asarray(masks, dtype=bool)).reshape(-1, SIZE, SIZE)
    result = Instances((SIZE, SIZE))
    result.pred_masks = masks
    result.pred_boxes = Boxes(torch.stack([box_of(mask) for mask in masks]) if len(masks) else torch.zeros(0, 4))
    result.scores = torch.as_tensor(scores, dtype=torch.float32)
    result.pred_classes = torch.as_tensor(classes, dtype=torch.int64)
    return result


def box_of(mask):
    y, x = torch.where(mask)
    return torch.tensor([x.min(), y.min(), x.max() + 1, y.max() + 1], dtype=torch.float32)


def encode(mask):
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def rectangle(rng):
    mask = np.zeros((SIZE, SIZE), bool)
    y, x = rng.integers(0, SIZE - 12, 2)
    height, width = rng.integers(4, 12, 2)
    mask[y : y + height, x : x + width] = True
    return mask


def scene(folder, categories, seed):
    """Rectangles as ground truth; predictions are some of them, shifted, and some false ones."""
    rng = np.random.default_rng(seed)
    truth = {
        "images": [{"id": i, "height": SIZE, "width": SIZE} for i in (3, 11, 12)],
        "annotations": [],
        "categories": [{"id": i, "name": f"category {i}"} for i in categories],
    }
    predictions = {image["id"]: [] for image in truth["images"]}
    for image in truth["images"]:
        for _ in range(8):
            mask, category = rectangle(rng), int(rng.choice(categories))
            x0, y0, x1, y1 = box_of(torch.as_tensor(mask)).tolist()
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "segmentation": encode(mask),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                }
            )
            if rng.random() < 0.8:
                guess = category if rng.random() < 0.8 else int(rng.choice(categories))
                predictions[image["id"]].append((np.roll(mask, rng.integers(0, 3), 1), float(rng.random()), guess))
        predictions[image["id"]].append((rectangle(rng), float(rng.random()), int(rng.choice(categories))))
    path = folder / "truth.json"
    path.write_text(json.dumps(truth))
    return path, predictions


def reference_ap(path, predictions, kind):
    """AP and AP50 by pycocotools with the file's own category ids."""
    results = []
    for image_id, guesses in predictions.items():
        for mask, score, category in guesses:
            entry = {"image_id": image_id, "category_id": category, "score": float(np.float32(score))}
            if kind == "segm":
                entry["segmentation"] = encode(mask)
            else:
                x0, y0, x1, y1 = box_of(torch.as_tensor(mask)).tolist()
                entry["bbox"] = [x0, y0, x1 - x0, y1 - y0]
            results.append(entry)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:2] * 100


def score(evaluator, outputs):
    evaluator.reset()
    for image_id, result in outputs.items():
        evaluator.process([{"image_id": image_id}], [{"instances": result}])
    return evaluator.evaluate()


NUMBERINGS = {
    "things first, in order": {2: 0, 5: 1, 9: 2},
    "things first, shuffled": {2: 2, 5: 0, 9: 1},
    "things after stuff": {2: 11, 5: 12, 9: 13},
    "things between stuff, shuffled": {2: 40, 5: 3, 9: 17},
}


@pytest.mark.parametrize("numbering", NUMBERINGS.values(), ids=NUMBERINGS)
@pytest.mark.parametrize("order", [(2, 5, 9), (9, 2, 5)], ids=["file in order", "file not in order"])
def test_any_numbering_gives_pycocotools_numbers(tmp_path, register, numbering, order):
    path, predictions = scene(tmp_path, order, seed=len(str(numbering)))
    outputs = {
        image_id: instances(
            [m for m, _, _ in guesses], [s for _, s, _ in guesses], [numbering[c] for _, _, c in guesses]
        )
        for image_id, guesses in predictions.items()
    }
    results = score(InstanceEvaluator(register("numbering", path, numbering), str(tmp_path / "out")), outputs)
    for kind in ("bbox", "segm"):
        ap, ap50 = reference_ap(path, predictions, kind)
        assert 5 < ap < 95
        assert results[kind]["AP"] == pytest.approx(ap, abs=1e-9)
        assert results[kind]["AP50"] == pytest.approx(ap50, abs=1e-9)


def test_categories_keep_their_names(tmp_path, register):
    """All predictions of category 9 right, none of the others made: its AP is 100, theirs 0, under their names."""
    path, _ = scene(tmp_path, (9, 2, 5), seed=1)
    truth = json.loads(path.read_text())
    outputs = {}
    for image in truth["images"]:
        masks = [
            mask_util.decode(a["segmentation"])
            for a in truth["annotations"]
            if (a["image_id"], a["category_id"]) == (image["id"], 9)
        ]
        outputs[image["id"]] = instances(masks, [1.0] * len(masks), [30] * len(masks))
    results = score(InstanceEvaluator(register("names", path, {2: 20, 5: 10, 9: 30})), outputs)
    assert {key: value for key, value in results["segm"].items() if "-" in key} == {
        "AP-category 2": 0.0,
        "AP-category 5": 0.0,
        "AP-category 9": pytest.approx(100.0),
    }


def test_stuff_and_empty_predictions_are_left_out(tmp_path, register):
    path, predictions = scene(tmp_path, (2, 5), seed=4)
    numbering = {2: 6, 5: 4}
    plain, mixed = {}, {}
    for image_id, guesses in predictions.items():
        masks, scores, classes = (list(column) for column in zip(*guesses, strict=True))
        classes = [numbering[c] for c in classes]
        plain[image_id] = instances(masks, scores, classes)
        mixed[image_id] = instances([*masks, masks[0], masks[0]], [*scores, 1.0, 1.0], [*classes, 5, 99])
    mixed[12] = plain[12] = instances([], [], [])
    name = register("stuff", path, numbering)
    with_stuff, without = score(InstanceEvaluator(name), mixed), score(InstanceEvaluator(name), plain)
    assert with_stuff["segm"] == pytest.approx(without["segm"], nan_ok=True)
    assert with_stuff["bbox"] == pytest.approx(without["bbox"], nan_ok=True)


def test_outputs_are_not_changed(tmp_path, register):
    path, predictions = scene(tmp_path, (2, 5), seed=4)
    result = instances([m for m, _, _ in predictions[3]], [s for _, s, _ in predictions[3]], [6] * len(predictions[3]))
    evaluator = InstanceEvaluator(register("unchanged", path, {2: 6, 5: 4}))
    evaluator.reset()
    evaluator.process([{"image_id": 3}], [{"instances": result}])
    assert result.pred_classes.tolist() == [6] * len(predictions[3])


def test_no_predictions_at_all_are_not_a_number(tmp_path, register):
    path, predictions = scene(tmp_path, (2, 5), seed=4)
    outputs = {image_id: instances([], [], []) for image_id in predictions}
    results = score(InstanceEvaluator(register("none", path, {2: 0, 5: 1})), outputs)
    assert set(results) == {"bbox", "segm"}
    assert np.isnan(results["segm"]["AP"])


def test_a_thing_that_the_file_lacks_is_named(tmp_path, register):
    path, _ = scene(tmp_path, (2, 5), seed=4)
    with pytest.raises(ValueError, match=r"lacking: category ids \[8\].*truth\.json"):
        InstanceEvaluator(register("lacking", path, {2: 0, 8: 1}))


@pytest.mark.parametrize(("kind", "published"), [("segm", [0.320, 0.562, 0.299]), ("bbox", [0.505, 0.697, 0.573])])
def test_cocos_published_fake_results(data_root, register, kind, published):
    """COCO publishes fake results for 100 images of val2014, and the scores of its own evaluation of them."""
    folder = data_root / "coco_eval"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    truth_file = folder / "instances_val2014_100.json"
    truth = json.loads(truth_file.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    ids = [category["id"] for category in truth["categories"]]
    numbering = dict(zip(ids, (np.random.default_rng(0).permutation(len(ids) + 53)[: len(ids)]).tolist(), strict=True))
    by_image = {image_id: [] for image_id in sizes}
    for result in json.loads((folder / f"instances_val2014_fake{kind}100_results.json").read_text()):
        by_image[result["image_id"]].append(result)

    evaluator = InstanceEvaluator(register("published", truth_file, numbering))
    evaluator.reset()
    for image_id, results in by_image.items():
        evaluator.process(
            [{"image_id": image_id}], [{"instances": published_instances(results, sizes[image_id], numbering)}]
        )
    found = evaluator.evaluate()[kind]
    # Detectron2 keeps boxes in float32, which turns a few exact ties of these made-up boxes.
    tolerance = 0.0005 if kind == "segm" else 0.001
    assert [found[name] / 100 for name in ("AP", "AP50", "AP75")] == pytest.approx(published, abs=tolerance)


def published_instances(results, size, numbering):
    """Results of COCO's format as a model's output; a result without a mask gets an empty one."""
    masks = torch.zeros(len(results), *size, dtype=torch.bool)
    boxes = torch.zeros(len(results), 4, dtype=torch.float64)
    for i, result in enumerate(results):
        if "segmentation" in result:
            masks[i] = torch.from_numpy(mask_util.decode(result["segmentation"])).bool()
            boxes[i] = box_of(masks[i])
        else:
            x, y, width, height = result["bbox"]
            boxes[i] = torch.tensor([x, y, x + width, y + height])
    output = Instances(size)
    output.pred_masks = masks
    output.pred_boxes = Boxes(boxes)
    output.scores = torch.tensor([result["score"] for result in results], dtype=torch.float64)
    output.pred_classes = torch.tensor([numbering[result["category_id"]] for result in results]).long()
    return output
