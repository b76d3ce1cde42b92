"""Results without tensors are written byte by byte as by ``torch.save``."""

import io

import pytest
import torch

from mask2former.evaluation.plain_results import save_plain

RUNS = {"size": [3, 4], "counts": "02N1"}
RESULTS = [
    [],
    [{"image_id": 3, "instances": [{"image_id": 3, "category_id": 7, "bbox": [0.0, 1.5, 2.0, 1e-9], "score": 0.5}]}],
    [{"image_id": "a", "instances": [{"score": 1e300, "segmentation": RUNS, "none": None}] * 3}] * 2,
]


@pytest.mark.parametrize("results", RESULTS)
def test_bytes_are_those_of_pytorch(results: list) -> None:
    ours, theirs = io.BytesIO(), io.BytesIO()
    save_plain(results, ours)
    torch.save(results, theirs)
    assert ours.getvalue() == theirs.getvalue()
    ours.seek(0)
    assert torch.load(ours, weights_only=True) == results
