"""Sliding windows against a slow loop over pixels and windows."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from small_models import configuration
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.evaluation.tta import SegmentorWithTTA
from mask2former.modeling.meta_arch.windows import window_starts


@pytest.mark.parametrize("length", range(1, 40))
@pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 5), (8, 1), (16, 11)])
def test_windows_cover_everything_in_strides(length: int, window: int, stride: int) -> None:
    """A window every stride until one reaches the end, which is moved back to end there."""
    expected, start = [], 0
    while start + window < length:
        expected.append(start)
        start += stride
    expected.append(max(length - window, 0))
    assert window_starts(length, window, stride) == expected


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        *[(40, [0]), (512, [0]), (513, [0, 1]), (683, [0, 171]), (1024, [0, 512])],
        *[(1025, [0, 256, 513]), (1365, [0, 426, 853]), (1537, [0, 341, 683, 1025])],
    ],
)
def test_few_windows_are_spread_evenly(length: int, expected: list[int]) -> None:
    """By hand: 1365 = 512 + 853 needs three windows, whose starts are 853 / 2 apart, rounded down."""
    assert window_starts(length, 512, 0) == expected


@pytest.mark.parametrize("length", range(1, 200))
def test_few_windows_cover_everything(length: int) -> None:
    starts = window_starts(length, 16, 0)
    assert len(starts) == max(math.ceil(length / 16), 1)
    assert set().union(*(range(start, start + 16) for start in starts)) >= set(range(length))
    assert starts[-1] + 16 == max(length, 16)


def model(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    cfg = configuration()
    cfg.MODEL.MASK_FORMER.TEST.WINDOW, cfg.MODEL.MASK_FORMER.TEST.WINDOW_STRIDE = 64, 40
    for key, value in changes.items():
        cfg.MODEL.MASK_FORMER.TEST[key] = value
    return build_model(cfg).eval()


def slow_scores(whole: nn.Module, image: Tensor, size: tuple[int, int]) -> Tensor:
    """Scores of each window by the model without windows; each pixel's mean over the windows that hold it."""
    height, width = image.shape[1:]
    total, count = torch.zeros(7, height, width), torch.zeros(height, width)
    for top in (0, 40, height - 64):
        for left in (0, 40, width - 64):
            scores = whole([{"image": image[:, top : top + 64, left : left + 64]}])[0]["sem_seg"]
            for y in range(64):
                for x in range(64):
                    total[:, top + y, left + x] += scores[:, y, x]
                    count[top + y, left + x] += 1
    return F.interpolate((total / count)[None], size, mode="bilinear", align_corners=False)[0]


@torch.no_grad()
def test_scores_are_averaged() -> None:
    windowed = model()
    whole = model(WINDOW=0)
    image = torch.rand(3, 110, 125) * 255
    (result,) = windowed([{"image": image, "height": 70, "width": 95}])
    expected = slow_scores(whole, image, (70, 95))
    torch.testing.assert_close(result["sem_seg"], expected, atol=1e-4, rtol=1e-3)
    labels = windowed.infer(
        [{"image": image, "height": 70, "width": 95}], replace(windowed.post_processing, semantic_labels=True)
    )
    assert torch.equal(labels[0]["sem_seg_labels"].long(), result["sem_seg"].argmax(0))


@torch.no_grad()
def test_an_image_of_one_window_gets_the_usual_result() -> None:
    image = torch.rand(3, 50, 64) * 255
    results = [one([{"image": image, "height": 30, "width": 40}])[0]["sem_seg"] for one in (model(), model(WINDOW=0))]
    torch.testing.assert_close(*results)


@torch.no_grad()
def test_several_sizes_each_in_windows() -> None:
    windowed = model()
    image = (torch.rand(3, 80, 100) * 255).byte()
    tta = SegmentorWithTTA(windowed, min_sizes=[80, 120], max_size=1000, flip=True, image_format="RGB")
    found = tta([{"image": image, "height": 80, "width": 100}])[0]["sem_seg"]
    total = torch.zeros(7, 80, 100)
    for version, mirrored in tta._versions({"image": image}):
        scores = windowed([{"image": version, "height": 80, "width": 100}])[0]["sem_seg"]
        total += scores.flip(-1) if mirrored else scores
    torch.testing.assert_close(found, total / 4)


def test_what_windows_cannot_do() -> None:
    with pytest.raises(ValueError, match="averages semantic scores"):
        model(INSTANCE_ON=True)
    with pytest.raises(ValueError, match="WINDOW is 64 and WINDOW_STRIDE 65"):
        model(WINDOW_STRIDE=65)
    with pytest.raises(ValueError, match="takes single images; found a clip"):
        model()([{"image": [torch.zeros(3, 64, 64)]}])
