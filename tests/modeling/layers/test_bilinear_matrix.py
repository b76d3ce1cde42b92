"""The matrix that resizes against ``torch.nn.functional.interpolate``."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mask2former.modeling.layers.bilinear_matrix import resizing_rows


@settings(deadline=None, max_examples=60)
@given(
    source=st.integers(1, 20),
    target=st.integers(1, 40),
    part=st.tuples(st.floats(0, 0.99), st.floats(0, 1)),
    aligned=st.booleans(),
)
def test_rows_resize_as_interpolation_does(source: int, target: int, part: tuple[float, float], aligned: bool) -> None:
    first = int(part[0] * target)
    last = first + 1 + int(part[1] * (target - first - 1))
    column = torch.randn(source, dtype=torch.float64)
    weights, begin, end = resizing_rows(source, target, first, last, aligned)
    whole = F.interpolate(column[None, None, :, None], size=(target, 1), mode="bilinear", align_corners=aligned)
    expected = whole[0, 0, first:last, 0]
    torch.testing.assert_close(weights @ column[begin:end], expected)
