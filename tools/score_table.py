#!/usr/bin/env python3
"""Write README's table of scores from recorded runs, so that no row says more than a run has shown.

  score_table.py record output/quickstart/panoptic    # keep a finished run's facts and scores in docs/scores.json
  score_table.py write                                # write the table; a test fails if README is out of date

A run's folder holds config.yaml, metrics.json, run.json and scores.json. Recording a configuration again replaces its
row; --row NAME keeps another one beside it, such as a seed's or a test size's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
RECORDS, README = ROOT / "docs" / "scores.json", ROOT / "README.md"
BEGIN, END = "<!-- scores: tools/score_table.py -->\n", "<!-- end of scores -->\n"
SHOWN = {  # by task: its scores, and their names in the table
    "panoptic_seg": {"PQ": "PQ", "PQ_th": "PQ of things"},
    "segm": {"AP": "mask AP", "AP50": "AP50"},
    "sem_seg": {"mIoU": "mIoU", "pACC": "pixel accuracy"},
}
Record = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """The command; ``arguments`` are those after its name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="keep a finished run in docs/scores.json")
    record.add_argument("folder", type=Path, help="OUTPUT_DIR of the run")
    record.add_argument("--row", help="name of the row; the configuration's by default")
    record.add_argument("--note", default="", help="shown after the scores")
    commands.add_parser("write", help="write README's table")
    options = parser.parse_args(arguments)
    try:
        if options.command == "record":
            keep(read_run(options.folder, options.row, options.note))
        README.write_text(with_table(README.read_text(), json.loads(RECORDS.read_text())))
    except (OSError, ValueError, KeyError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"{RECORDS}\n{README}")
    return 0


def read_run(folder: Path, row: str | None = None, note: str = "") -> Record:
    """Read a run's facts and scores.

    Raises:
        OSError: a file is missing.
        ValueError: the run's command names no configuration, or its scores are not of its last iteration.
    """
    facts, scores = (json.loads((folder / name).read_text()) for name in ("run.json", "scores.json"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    command = re.sub(r"\S*/(?=\w+\.py\b)", "", facts["Command"], count=1)
    found = re.search(r"--config-file[ =](?:\S*/)?configs/(\S+)\.yaml", command)
    if not (row or found):
        raise ValueError(f"{folder}/run.json: the command {command!r} names no file below configs; give --row.")
    # metrics.json: the median time of an iteration, every twenty of them and at the end.
    logged = {line["iteration"] + 1: line["time"] for line in rows if "time" in line}
    seconds = sum((end - start) * logged[end] for start, end in itertools.pairwise([0, *sorted(logged)]))
    solver = config["SOLVER"]
    if not logged or max(logged) < solver["MAX_ITER"]:
        raise ValueError(f"{folder}/metrics.json: the run ended after {max(logged, default=0)} iterations.")
    return {
        "row": row or (found[1] if found else ""),
        "command": re.sub(r"(OUTPUT_DIR )\S+", r"\1output/run", command),
        "iterations": solver["MAX_ITER"],
        "images": solver["IMS_PER_BATCH"],
        "minutes": round(seconds / 60, 1),
        "seed": config["SEED"] if config["SEED"] >= 0 else "random",
        "data set": facts["Data set"],
        "device": facts["Device"],
        "written": facts["Written"],
        "commit": facts.get("Commit", ""),
        "scores": {task: {key: scores[task][key] for key in keys} for task, keys in SHOWN.items() if task in scores},
        "note": note,
    }


def keep(record: Record) -> None:
    """Write a record into docs/scores.json, in place of an earlier one of the row."""
    records = json.loads(RECORDS.read_text()) if RECORDS.exists() else []
    places = [index for index, other in enumerate(records) if other["row"] == record["row"]]
    if places:
        records[places[0]] = record
    else:
        records.append(record)
    partial = RECORDS.with_suffix(".partial")
    partial.write_text(json.dumps(records, indent=1) + "\n")
    os.replace(partial, RECORDS)


def with_table(page: str, records: list[Record]) -> str:
    """Return the page with the table between its marks.

    Raises:
        ValueError: the page lacks the marks.
    """
    start, end = page.find(BEGIN), page.find(END)
    if start < 0 or end < start:
        raise ValueError(f"{README.name} has no lines {BEGIN.strip()!r} and {END.strip()!r}.")
    return page[: start + len(BEGIN)] + table(records) + page[end:]


def table(records: list[Record]) -> str:
    """Write the records as a table of Markdown."""
    lines = ["| configuration | iterations x images | training time | scores | run |", f"| {'--- | ' * 5}".rstrip()]
    for one in records:
        shown = [
            f"{name} {one['scores'][task][key]:.1f}"
            for task, keys in SHOWN.items()
            if task in one["scores"]
            for key, name in keys.items()
            if one["scores"][task][key] == one["scores"][task][key]  # not NaN
        ]
        device = re.sub(r" +", " ", one["device"])
        run = f"{one['written'].split()[0]}, commit {one['commit'][:7]}, seed {one['seed']}"
        scores = "; ".join(filter(None, [", ".join(shown), one["note"]]))
        minutes = f"{one['minutes']:.0f} min ({device})"
        cells = [f"`{one['row']}`", f"{one['iterations']} x {one['images']}", minutes, scores, run]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
