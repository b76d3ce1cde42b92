"""Images in a row go to the network together only if they are of one size, and as soon as there are enough."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
import pytest
import torch

from mask2former.predictor.batches import Entry, of_one_size
from mask2former.predictor.load_image import LoadedImage

WIDTHS = [4, 4, 4, 6, 4, 6, 6]


def entries(seen: list[int]) -> Iterator[Entry]:
    for width in WIDTHS:
        seen.append(width)
        yield LoadedImage(np.zeros((2, width, 3), np.uint8)), {"image": torch.zeros(3, 2, width)}


def test_batches_are_of_one_size_and_in_order() -> None:
    for size, expected in ((1, [1] * 7), (2, [2, 1, 1, 1, 2]), (5, [3, 1, 1, 2])):
        batches = [[one["image"].shape[2] for _, one in batch] for batch in of_one_size(entries([]), size)]
        assert [len(batch) for batch in batches] == expected
        assert all(len(set(batch)) == 1 for batch in batches) and [*chain(*batches)] == WIDTHS
    assert list(of_one_size(iter(()), 3)) == []


def test_a_full_batch_waits_for_no_further_frame() -> None:
    seen: list[int] = []
    next(of_one_size(entries(seen), 2))
    assert seen == WIDTHS[:2]


def test_what_was_read_before_an_error_is_not_lost() -> None:
    def broken() -> Iterator[Entry]:
        yield from entries([])
        raise OSError("frame 7 cannot be decoded")

    batches = []
    with pytest.raises(OSError, match="frame 7"):
        for batch in of_one_size(broken(), 5):
            batches.append(len(batch))
    assert batches == [3, 1, 1, 2]
