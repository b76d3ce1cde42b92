"""Single values of annotation files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mask2former.data.coco.rules import crowd_flag, identifier, image_size, join_below, segment_id, whole_number


@pytest.mark.parametrize("name", ["a.png", "city/a.png", "a..b.png", "./a.png", "..a/b.png"])
def test_names_below_the_root_are_joined(name: str) -> None:
    assert Path(join_below("/data", name, "x.json")) == Path("/data") / name


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "a/../../b.png",
        "..\\secret.png",
        "C:\\a.png",
        "s3://bucket/a.png",
        "",
        None,
        3,
    ],
)
def test_names_that_lead_out_of_the_root_are_refused(name: object) -> None:
    with pytest.raises(ValueError, match=r"x\.json, image 7"):
        join_below("/data", name, "x.json, image 7")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, False), (1, True), (False, False), (True, True), (None, False), (0.0, False), (1.0, True)],
)
def test_crowd_flags(value: Any, expected: bool) -> None:
    assert crowd_flag(value) is expected


@pytest.mark.parametrize("value", ["0", "1", "false", "", 7, -1, 0.5, float("nan"), [], {}])
def test_what_is_no_crowd_flag(value: Any) -> None:
    with pytest.raises(ValueError, match=r"iscrowd is .* 0 or 1"):
        crowd_flag(value)


@pytest.mark.parametrize(
    ("value", "number", "name"),
    [
        (7, 7, 7), (7.0, 7, 7), (-3, -3, -3), (2**70, 2**70, 2**70), ("7", None, "7"), (7.5, None, None),
        (True, None, None), (None, None, None), (float("inf"), None, None), ("", None, None), ([7], None, None),
    ],
)  # fmt: skip
def test_whole_numbers_and_ids(value: Any, number: int | None, name: Any) -> None:
    assert whole_number(value) == number and identifier(value) == name
    assert not isinstance(whole_number(value), float)


def test_segment_ids() -> None:
    assert [segment_id(value) for value in (1, 300.0, 2**24 - 1)] == [1, 300, 2**24 - 1]
    with pytest.raises(ValueError, match="segment 0: the id 0 stands for pixels of no segment"):
        segment_id(0)
    for value in (-1, 2**24, 10**30, "5", 5.5, None, True, [5]):
        with pytest.raises(ValueError, match="integers from 1 to 16777215"):
            segment_id(value)


def test_image_sizes() -> None:
    assert image_size(480.0, 640) == (480, 640)
    for size in ((0, 5), (-1, 5), ("5", 5), (None, 5), (True, 5), (5.5, 5), (10**9, 10**9)):
        with pytest.raises(ValueError, match="height and width are"):
            image_size(*size)
