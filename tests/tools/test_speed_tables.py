"""Tables of docs/speed*.md are those of the recorded runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import speed_tables  # noqa: E402

REPORT = {
    "run": {"command": "tools/benchmark.py families", "date": "2026-11-27", "commit": "0123456789ab"},
    "machine": {"device": "A CPU", "torch": "2.15.0"},
    "table": "| a |\n|---|\n| 1 |",
    "words": ["One is faster."],
}
PAGE = "above\n<!-- speed: mine -->\nold\n<!-- end of speed -->\nbelow\n"


def test_pages_are_up_to_date() -> None:
    places = 0
    for page in sorted(speed_tables.PAGES.glob("*.md")):
        text = page.read_text()
        places += len(speed_tables.PLACE.findall(text))
        assert speed_tables.with_tables(text, speed_tables.RECORDS) == text, "run tools/speed_tables.py write"
    assert places >= len(list(speed_tables.RECORDS.glob("*.json"))) > 0


def test_a_run_is_kept_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    config = str(speed_tables.ROOT / "configs" / "a.yaml")
    (tmp_path / "mine.json").write_text(json.dumps(REPORT | {"rows": [{"config": config}]}))
    monkeypatch.setattr(speed_tables, "PAGES", tmp_path)
    monkeypatch.setattr(speed_tables, "RECORDS", tmp_path / "speed")
    assert speed_tables.main(["record", str(tmp_path / "mine.json")]) == 0
    shown = (
        "\n| a |\n|---|\n| 1 |\n\n- One is faster.\n\n`tools/benchmark.py families` (A CPU, torch 2.15.0; 2026-11-27, "
    )
    expected = PAGE.replace("old\n", shown + "commit 0123456).\n\n")
    assert (tmp_path / "page.md").read_text() == expected
    kept = json.loads((tmp_path / "speed" / "mine.json").read_text())
    assert Path(kept["rows"][0]["config"]) == Path("configs", "a.yaml"), "no folder of a machine"
    assert speed_tables.main(["write"]) == 0 and (tmp_path / "page.md").read_text() == expected


def test_what_cannot_be_shown_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed_tables, "PAGES", tmp_path)
    monkeypatch.setattr(speed_tables, "RECORDS", tmp_path / "speed")
    (tmp_path / "page.md").write_text(PAGE)
    assert speed_tables.main(["write"]) == 1
    assert "there is no mine.json in speed" in capsys.readouterr().err
    (tmp_path / "mine.json").write_text(json.dumps({"machine": {}}))
    assert speed_tables.main(["record", str(tmp_path / "mine.json")]) == 1
    assert "has no run, table; write it with" in capsys.readouterr().err
    assert not (tmp_path / "speed").exists()
