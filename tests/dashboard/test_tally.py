"""Counts of the report are the evaluators' numbers; errors are told apart as the rules say."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from panopticapi.evaluation import pq_compute_single_core
from panopticapi.utils import id2rgb
from PIL import Image
from pycocotools import mask as mask_util

from mask2former.dashboard.error_types import KINDS, Kind, judge
from mask2former.dashboard.tally import SIDES, PixelTally, SegmentTally
from mask2former.evaluation.overlaps import mask_overlaps, match, panoptic_overlaps
from mask2former.evaluation.pixel_counts import confusion

CLASSES = 5
EXAMPLES = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
SEEDS = st.integers(0, 2**32 - 1)


def draw_segments(rng, like=None):
    """(ids, segments): rectangles; near those of ``like`` if it is given. Void is 0; some segments are crowds."""
    size = 40
    ids = np.zeros((size, size), np.int64) if like is None else like[0].copy()
    scale = int(rng.choice([1, 300, 65536]))
    for number in range(1, 9):
        y, x = rng.integers(0, size - 4, 2)
        h, w = rng.integers(2, 20, 2)
        if like is None or rng.random() < 0.3:
            ids[y : y + h, x : x + w] = number * scale if rng.random() < 0.9 else 0
    known = {} if like is None else {s["id"]: s["category_id"] for s in like[1]}
    segments = [
        {
            "id": int(id_),
            "category_id": known[id_] if id_ in known and rng.random() < 0.8 else int(rng.integers(CLASSES)),
            "iscrowd": int(like is None and rng.random() < 0.2),
        }
        for id_ in np.unique(ids)
        if id_
    ]
    return ids, segments


@EXAMPLES
@given(seed=SEEDS)
def test_panoptic_counts_are_panopticapis(tmp_path, seed):
    rng = np.random.default_rng(seed)
    tally = SegmentTally.empty(CLASSES)
    pairs = []
    for image in range(3):
        truth = draw_segments(rng)
        found = draw_segments(rng, like=truth)
        overlaps = panoptic_overlaps(*truth, *found)
        tally.add(overlaps, judge(overlaps, match(overlaps)))
        annotations = []
        for name, (ids, segments) in (("truth", truth), ("found", found)):
            file = f"{name}{image}.png"
            Image.fromarray(id2rgb(ids.astype(np.uint32))).save(tmp_path / file)
            infos = [{**s, "area": int((ids == s["id"]).sum())} for s in segments]
            annotations.append({"image_id": image, "file_name": file, "segments_info": infos})
        pairs.append(annotations)
    categories = {i: {"id": i, "isthing": 1} for i in range(CLASSES)}
    official = pq_compute_single_core(0, pairs, str(tmp_path), str(tmp_path), categories)
    for category in range(CLASSES):
        one = official[category]
        counted = (tally.matched[category], tally.spurious[category], tally.unmatched[category])
        assert counted == (one.tp, one.fp, one.fn)
        assert tally.iou[category] == pytest.approx(one.iou, rel=1e-12)
    _, by_class = official.pq_average(categories, isthing=None)
    for name in ("PQ", "SQ", "RQ"):
        values = tally.quality()[name]
        for category, scores in by_class.items():
            if not np.isnan(values[category]):
                assert values[category] == pytest.approx(scores[name.lower()], rel=1e-12)
    assert_totals(tally)


def assert_totals(tally):
    """Every counted segment is in the confusion matrix, and of one kind, once."""
    true, found = tally.matched + tally.unmatched, tally.matched + tally.spurious
    assert np.array_equal(tally.confusion[:-1].sum(1), true)
    assert np.array_equal(tally.confusion[:, :-1].sum(0), found)
    counted = [i for i, kind in enumerate(KINDS) if kind not in (Kind.IGNORED, Kind.MISSED)]
    assert np.array_equal(tally.kinds[counted].sum(0), found)
    assert np.array_equal(tally.kinds[KINDS.index(Kind.CORRECT)], tally.matched)
    assert (tally.kinds[KINDS.index(Kind.MISSED)] <= tally.unmatched).all()
    assert tally.by_size[0].sum() == true.sum()
    assert tally.by_size[1].sum() == tally.matched.sum()
    assert tally.by_size[2].sum() == pytest.approx(tally.iou.sum())


def slow_confusion(truth, found, num_classes):
    """Segments by class, pair by pair: IoU above 0.5, whatever the classes; no void, no crowds."""
    counts = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    (true_ids, true_segments), (found_ids, found_segments) = truth, found
    taken = set()
    for one in true_segments:
        partner = num_classes
        for other in found_segments:
            a, b = true_ids == one["id"], found_ids == other["id"]
            if (a & b).sum() / (a | b).sum() > 0.5:
                partner = other["category_id"]
                taken.add(other["id"])
        counts[one["category_id"], partner] += 1
    for other in found_segments:
        if other["id"] not in taken:
            counts[num_classes, other["category_id"]] += 1
    return counts


@EXAMPLES
@given(seed=SEEDS)
def test_confusions_of_segments_are_those_of_a_slow_count(seed):
    rng = np.random.default_rng(seed)
    truth = draw_segments(rng)
    truth[0][truth[0] == 0] = 7  # no void
    truth = truth[0], [{**s, "iscrowd": 0} for s in [*truth[1], {"id": 7, "category_id": 2}]]
    truth = truth[0], list({s["id"]: s for s in truth[1]}.values())
    found = draw_segments(rng, like=truth)
    tally = SegmentTally.empty(CLASSES)
    overlaps = panoptic_overlaps(*truth, *found)
    tally.add(overlaps, judge(overlaps, match(overlaps)))
    assert np.array_equal(tally.confusion, slow_confusion(truth, found, CLASSES))


def boxes(*corners, size=(100, 100)):
    masks = np.zeros((len(corners), *size), bool)
    for mask, (y, x, h, w) in zip(masks, corners, strict=True):
        mask[y : y + h, x : x + w] = True
    return run_lengths(masks)


def run_lengths(masks):
    return mask_util.encode(np.asfortranarray(masks.transpose(1, 2, 0), np.uint8))


CASES = {
    "correct": ([(0, 0, 20, 20)], [0], [(0, 0, 20, 18)], [0], [Kind.CORRECT], 0),
    "duplicate": ([(0, 0, 20, 20)], [0], [(0, 0, 20, 18), (0, 0, 20, 20)], [0, 0], [Kind.CORRECT, Kind.DUPLICATE], 0),
    "wrong class": ([(0, 0, 20, 20)], [0], [(0, 0, 20, 20)], [1], [Kind.WRONG_CLASS], 0),
    "poor mask": ([(0, 0, 20, 20)], [0], [(0, 12, 20, 20)], [0], [Kind.BAD_OUTLINE], 0),
    "both": ([(0, 0, 20, 20)], [0], [(0, 12, 20, 20)], [1], [Kind.WRONG_AND_BAD], 0),
    "false alarm": ([(0, 0, 20, 20)], [0], [(50, 50, 9, 9)], [0], [Kind.FALSE_ALARM], 1),
    "IoU 0.05 is no attempt": ([(0, 0, 20, 20)], [0], [(0, 18, 20, 20)], [0], [Kind.FALSE_ALARM], 1),
    "split": ([(0, 0, 20, 20)], [0], [(0, 0, 20, 9), (0, 11, 20, 9)], [0, 0], [Kind.SPLIT, Kind.SPLIT], 0),
    "a piece beside a match": (
        [(0, 0, 20, 20)], [0], [(0, 0, 20, 14), (0, 15, 20, 5)], [0, 0], [Kind.CORRECT, Kind.SPLIT], 0,
    ),
    "merged": ([(0, 0, 20, 20), (0, 20, 20, 20)], [0, 0], [(0, 0, 20, 40)], [0], [Kind.MERGED], 1),
    "merged of another class is not": (
        [(0, 0, 20, 20), (0, 20, 20, 20)], [0, 1], [(0, 0, 20, 40)], [0], [Kind.BAD_OUTLINE], 1,
    ),
    "missed": ([(0, 0, 20, 20)], [0], [], [], [], 1),
    "nothing at all": ([], [], [], [], [], 0),
    "nothing there": ([], [], [(0, 0, 9, 9)], [1], [Kind.FALSE_ALARM], 0),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_kinds_of_errors(case):
    truths, true_classes, found, found_classes, kinds, missed = CASES[case]
    overlaps = mask_overlaps(boxes(*truths), np.array(true_classes), boxes(*found), np.array(found_classes))
    judgement = judge(overlaps, match(overlaps))
    assert [KINDS[kind] for kind in judgement.kinds] == kinds
    assert judgement.missed.sum() == missed
    tally = SegmentTally.empty(2)
    tally.add(overlaps, judgement)
    assert_totals(tally)


def test_what_lies_on_a_crowd_is_ignored():
    crowd = boxes((50, 50, 40, 40))
    found = boxes((60, 60, 10, 10), (60, 75, 10, 10))
    overlaps = mask_overlaps([], np.zeros(0), found, np.array([0, 1]), crowd, [0])
    assert [KINDS[k] for k in judge(overlaps, match(overlaps)).kinds] == [Kind.IGNORED, Kind.FALSE_ALARM]
    tally = SegmentTally.empty(2)
    assert tally.add(overlaps, judge(overlaps, match(overlaps))) == 0.0
    assert tally.spurious.tolist() == [0, 1]
    assert_totals(tally)


def test_shared_pixels_of_masks_are_counted():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 6, 30, 30)) < 0.4
    overlaps = mask_overlaps(run_lengths(a), np.zeros(6), run_lengths(b), np.zeros(6))
    assert np.array_equal(overlaps.shared, np.einsum("nyx,myx->nm", a.astype(int), b.astype(int)))


def test_sizes():
    side = 24
    overlaps = mask_overlaps(
        boxes((0, 0, side, side), (50, 50, 3, 3)), np.array([0, 0]), boxes((0, 0, 24, 24)), np.array([0])
    )
    tally = SegmentTally.empty(1)
    assert tally.add(overlaps, judge(overlaps, match(overlaps))) == pytest.approx(1 / 1.5)
    assert tally.by_size[:, SIDES.index(24)].tolist() == [1, 1, 1]
    assert tally.by_size[:, 0].tolist() == [1, 0, 0]


def test_tallies_add_up():
    rng = np.random.default_rng(3)
    whole, parts = SegmentTally.empty(CLASSES), [SegmentTally.empty(CLASSES) for _ in range(2)]
    for i in range(6):
        truth = draw_segments(rng)
        overlaps = panoptic_overlaps(*truth, *draw_segments(rng, like=truth))
        for tally in (whole, parts[i % 2]):
            tally.add(overlaps, judge(overlaps, match(overlaps)))
    parts[0] += parts[1]
    for name, value in vars(whole).items():
        assert np.allclose(value, getattr(parts[0], name), rtol=1e-12)


@EXAMPLES
@given(seed=SEEDS)
def test_pixel_scores_are_detectron2s(tmp_path, seed):
    rng = np.random.default_rng(seed)
    name = f"tally_pixels_{seed}"
    records, outputs = [], []
    tally = PixelTally.empty(CLASSES)
    for i in range(2):
        truth = rng.integers(0, CLASSES - (seed % 2), (11, 13)).astype(np.uint8)
        truth[rng.random(truth.shape) < 0.2] = 255
        scores = torch.from_numpy(rng.random((CLASSES, 11, 13)))
        file = str(tmp_path / f"{i}.png")
        Image.fromarray(truth).save(file)
        records.append({"file_name": f"{i}.jpg", "sem_seg_file_name": file})
        outputs.append({"sem_seg": scores})
        tally.add(confusion(scores.argmax(0).numpy(), truth, CLASSES, 255).T, np.arange(CLASSES))
    try:
        DatasetCatalog.register(name, lambda: records)
        classes = [f"c{i}" for i in range(CLASSES)]
        MetadataCatalog.get(name).set(stuff_classes=classes, ignore_label=255)
        evaluator = SemSegEvaluator(name, distributed=False)
        evaluator.reset()
        evaluator.process(records, outputs)
        official = evaluator.evaluate()["sem_seg"]
    finally:
        DatasetCatalog.pop(name)
        MetadataCatalog.pop(name)
    quality = tally.quality()
    for i, label in enumerate(classes):
        # Detectron2 tells nothing about a class that is found but nowhere true.
        there = (tally.confusion[i] > 0).any()
        assert 100 * quality["IoU"][i] == pytest.approx(official[f"IoU-{label}"] if there else 0.0, rel=1e-12)
        assert 100 * quality["recall"][i] == pytest.approx(official[f"ACC-{label}"], rel=1e-12, nan_ok=True)
    # In the mean 0.6 counts such a class as 0, and the main branch, which counts boundaries too, leaves it out.
    true, found = tally.confusion.any(1), tally.confusion.any(0)
    averaged = true if hasattr(evaluator, "_b_conf_matrix") else true | found
    assert 100 * quality["IoU"][averaged].mean() == pytest.approx(official["mIoU"], rel=1e-12)
    dice = 2 * quality["IoU"] / (1 + quality["IoU"])
    assert np.allclose(quality["Dice"], dice)
