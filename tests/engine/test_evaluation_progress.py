"""The progress of an evaluation: time left in lines that a file can hold, a bar on a terminal alone."""

from __future__ import annotations

import logging

import pytest

from mask2former.engine.evaluation_progress import ShownLoader, shown
from mask2former.engine.logs import NOTICE


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that have passed, as the module under test is told."""
    now = [100.0]
    monkeypatch.setattr("mask2former.engine.evaluation_progress.time.perf_counter", lambda: now[0])
    return now


def test_lines_say_how_much_time_is_left(
    clock: list[float], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each batch takes 6 seconds, and a line comes every 20: after 1, 5 (24 seconds later), 9, and the last."""
    with caplog.at_level(logging.INFO, "mask2former"):
        for number, batch in enumerate(ShownLoader(list(range(10)), "some", live=False)):
            assert batch == number
            clock[0] += 6
    lines = [
        "evaluated 1/10, 0:00:54 left",
        "evaluated 5/10, 0:00:30 left",
        "evaluated 9/10, 0:00:06 left",
        "evaluated 10/10, in 0:01:00",
    ]
    assert [record.getMessage() for record in caplog.records] == lines
    assert {record.levelno for record in caplog.records} == {NOTICE}  # quiet runs show it too
    assert "\r" not in "".join(capsys.readouterr())


def test_a_terminal_gets_a_bar_instead(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.INFO, "mask2former"):
        assert list(ShownLoader(["a", "b"], "some", live=True)) == ["a", "b"]
    assert "evaluating some" in capsys.readouterr().err
    assert not caplog.records


def test_what_has_no_length_is_left_as_it_is() -> None:
    batches = iter([1, 2])
    assert shown(batches, "some") is batches
    assert len(shown([1, 2, 3], "some")) == 3  # type: ignore[arg-type]
