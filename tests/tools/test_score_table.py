"""README's table of scores is that of the recorded runs, and a record is what a run's files say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import score_table  # noqa: E402


def test_readme_is_up_to_date() -> None:
    records = json.loads(score_table.RECORDS.read_text())
    page = score_table.README.read_text()
    assert score_table.with_table(page, records) == page, "run tools/score_table.py write"
    for record in records:
        assert (ROOT / "configs" / f"{record['row'].split()[0]}.yaml").is_file()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    (folder / "config.yaml").write_text("SOLVER: {MAX_ITER: 50, IMS_PER_BATCH: 4}\nSEED: 7\n")
    lines = [{"iteration": 19, "time": 3.0}, {"iteration": 39, "time": 6.0}, {"iteration": 49, "time": 12.0}, {"AP": 1}]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = "/home/me/train_net.py --config-file configs/nuclei/instance/lite0.yaml OUTPUT_DIR /home/me/output"
    facts = {"Command": command, "Data set": "nuclei_val", "Device": "A CPU, 1 of 2 threads"}
    facts |= {"Written": "2026-11-26 22:00 UTC", "Commit": "0123456789ab"}
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "scores.json").write_text('{"segm": {"AP": 45.648, "AP50": NaN, "APs": 1.0}}')
    return folder


def test_a_record_holds_what_the_run_says(run: Path) -> None:
    record = score_table.read_run(run, note="one seed")
    assert record["row"] == "nuclei/instance/lite0"
    assert record["command"] == "train_net.py --config-file configs/nuclei/instance/lite0.yaml OUTPUT_DIR output/run"
    assert (record["iterations"], record["images"], record["seed"]) == (50, 4, 7)
    assert record["minutes"] == 5.0  # 20 * 3 + 20 * 6 + 10 * 12 seconds
    *_, row = score_table.table([record]).splitlines()
    expected = "| `nuclei/instance/lite0` | 50 x 4 | 5 min (A CPU, 1 of 2 threads) | mask AP 45.6; one seed "
    assert row == expected + "| 2026-11-26, commit 0123456, seed 7 |"


def test_a_run_that_was_broken_off_is_refused(run: Path) -> None:
    (run / "config.yaml").write_text("SOLVER: {MAX_ITER: 51, IMS_PER_BATCH: 4}\nSEED: 7\n")
    with pytest.raises(ValueError, match="ended after 50 iterations"):
        score_table.read_run(run)


def test_a_row_is_replaced_by_its_next_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{score_table.BEGIN}old\n{score_table.END}below\n")
    monkeypatch.setattr(score_table, "RECORDS", tmp_path / "scores.json")
    monkeypatch.setattr(score_table, "README", readme)
    assert score_table.main(["record", str(run)]) == 0
    assert score_table.main(["record", str(run), "--row", "other"]) == 0
    assert score_table.main(["record", str(run), "--note", "again"]) == 0
    assert [one["note"] for one in json.loads((tmp_path / "scores.json").read_text())] == ["again", ""]
    assert readme.read_text().startswith("above\n") and readme.read_text().endswith("below\n")
    assert readme.read_text().count("| `") == 2 and "old" not in readme.read_text()
    readme.write_text("no marks")
    assert score_table.main(["write"]) == 1
