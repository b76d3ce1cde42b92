"""The position encoding against its formula, number by number."""

from __future__ import annotations

import math

import pytest
import torch
from oracles import position

from mask2former.modeling.layers.position_encoding import SinePositionEncoding


@pytest.mark.parametrize("time", [False, True])
@pytest.mark.parametrize("frames", [1, 3])
def test_equals_the_formula(frames: int, time: bool) -> None:
    found = SinePositionEncoding(12, with_time=time)((3, 5), frames)
    assert found.shape == (12, frames, 3, 5) and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), position(12, 3, 5, frames, time=time), atol=3e-6, rtol=0)


def test_temperature_is_the_ratio_of_frequencies() -> None:
    """Check one value by hand: the fourth pair of 8 channels has frequency ``temperature ** (-6 / 8)``."""
    found = SinePositionEncoding(16, temperature=16.0)((4, 1))[:8, 0, :, 0]
    place = torch.arange(1, 5) / 4 * 2 * math.pi
    torch.testing.assert_close(found[6], (place / 8).sin(), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[7], (place / 8).cos(), atol=1e-5, rtol=0)


def test_half_precision_is_rounded_once() -> None:
    encoding = SinePositionEncoding(12)
    assert torch.equal(encoding((3, 5), dtype=torch.bfloat16), encoding((3, 5)).bfloat16())


def test_channels_are_sines_and_cosines_of_both_axes() -> None:
    with pytest.raises(ValueError, match="divisible by 4, found 6"):
        SinePositionEncoding(6)
