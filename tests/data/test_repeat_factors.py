"""Repeat factors beside the formula, for records of every kind."""

from __future__ import annotations

import itertools
import logging
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mask2former.config import load_config
from mask2former.data.loader import build_train_loader
from mask2former.data.repeat_factors import repeat_factors

SHOWN = [{0}, {0}, {0, 1}, {0}, {0, 2}, {0, 2}, {0}, {0}, {0}, set()]  # classes of ten images


def records(kind, folder):
    for number, classes in enumerate(SHOWN):
        if kind == "sem_seg_file_name":
            labels = np.full((4, 4), 255, np.uint8)
            for row, one in enumerate(sorted(classes)):
                labels[row] = one
            Image.fromarray(labels).save(folder / f"{number}.png")
            yield {"file_name": f"{number}.jpg", kind: str(folder / f"{number}.png")}
        else:
            yield {"file_name": f"{number}.jpg", kind: [{"category_id": one} for one in classes for _ in range(2)]}


@pytest.mark.parametrize("kind", ["annotations", "segments_info", "sem_seg_file_name"])
def test_the_rarest_class_of_an_image_decides(tmp_path, kind):
    """Class 0 is in 9 of 10 images, 1 in one, 2 in two."""
    found = repeat_factors(list(records(kind, tmp_path)), 0.4)
    expected = [1, 1, (0.4 / 0.1) ** 0.5, 1, (0.4 / 0.2) ** 0.5, (0.4 / 0.2) ** 0.5, 1, 1, 1, 1]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_records_without_classes_and_a_threshold_of_0(tmp_path, caplog):
    with pytest.raises(ValueError, match=r"a\.jpg: .*no annotations, segments_info or sem_seg_file_name"):
        repeat_factors([{"file_name": "a.jpg"}], 0.1)
    with caplog.at_level(logging.WARNING):
        assert set(repeat_factors(list(records("annotations", tmp_path)), 0.0).tolist()) == {1.0}
    assert "no image is repeated" in caplog.text


def test_the_loader_shows_rare_classes_more_often(tmp_path):
    """Repeat label maps, and do the same from any batch on."""
    listed = [{**one, "id": number} for number, one in enumerate(records("sem_seg_file_name", tmp_path))]
    options = ["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD", "0.9"]
    options += ["DATALOADER.NUM_WORKERS", "0", "SOLVER.IMS_PER_BATCH", "2", "SEED", "3"]
    cfg = load_config(None, [*options, "DATALOADER.ASPECT_RATIO_GROUPING", "False"])

    def ids(start):
        loader = build_train_loader(cfg, lambda record: record["id"], dataset=listed)
        loader.start = start
        return list(itertools.islice(iter(loader), 700))

    batches = ids(0)
    assert ids(300)[:400] == batches[300:]
    counts = Counter(itertools.chain(*batches))
    assert counts[2] / counts[0] == pytest.approx((0.9 / 0.1) ** 0.5, rel=0.15)
