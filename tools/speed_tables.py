#!/usr/bin/env python3
"""Write the tables of docs/speed*.md from recorded runs of tools/benchmark.py, so that none is older than it says.

  benchmark.py families --json families.json        # measure
  speed_tables.py record families.json              # keep the numbers in docs/speed/families.json, and write the pages
  speed_tables.py write                             # write the pages again; a test fails if one is out of date

A page holds a table between the lines `<!-- speed: NAME -->` and `<!-- end of speed -->`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORDS, PAGES = ROOT / "docs" / "speed", ROOT / "docs"
PLACE = re.compile(r"(<!-- speed: ([\w-]+) -->\n)(.*?)(<!-- end of speed -->\n)", re.DOTALL)
NEEDED = ("run", "machine", "table")  # of a report that benchmark.py --json wrote


def main(arguments: list[str] | None = None) -> int:
    """The command; ``arguments`` are those after its name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="keep a run in docs/speed, and write the pages")
    record.add_argument("file", type=Path, help="what benchmark.py --json wrote")
    record.add_argument("--name", help="name of the record; the file's by default")
    commands.add_parser("write", help="write the pages")
    options = parser.parse_args(arguments)
    try:
        if options.command == "record":
            keep(options.file, options.name or options.file.stem)
        for page in sorted(PAGES.glob("*.md")):
            text = page.read_text()
            if (written := with_tables(text, RECORDS)) != text:
                page.write_text(written)
                print(page)
    except (OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def keep(file: Path, name: str) -> None:
    """Copy a report into docs/speed, without the name of this checkout's folder.

    Raises:
        ValueError: it lacks what a table needs.
    """
    here = json.dumps(f"{ROOT}{os.sep}")[1:-1]  # as JSON writes it
    report = json.loads(file.read_text().replace(here, ""))
    if missing := [key for key in NEEDED if key not in report]:
        raise ValueError(f"{file} has no {', '.join(missing)}; write it with this version's benchmark.py --json.")
    RECORDS.mkdir(exist_ok=True)
    target = RECORDS / f"{name}.json"
    target.write_text(json.dumps(report, indent=1) + "\n")
    print(target)


def with_tables(page: str, records: Path) -> str:
    """Return the text of a page with the recorded tables in their places.

    Raises:
        ValueError: a place names no record.
    """

    def filled(place: re.Match[str]) -> str:
        file = records / f"{place[2]}.json"
        if not file.exists():
            raise ValueError(f"there is no {file.name} in {records.name}: record one, or take the place out.")
        return place[1] + section(json.loads(file.read_text())) + place[4]

    return PLACE.sub(filled, page)


def section(report: dict[str, Any]) -> str:
    """Return the table and the facts of its run, as Markdown."""
    run, machine = report["run"], report["machine"]
    facts = f"{machine['device']}, torch {machine['torch']}; {run['date']}, commit {run['commit'][:7] or 'unknown'}"
    parts = [report["table"], "\n".join(f"- {line}" for line in report.get("words", []))]
    parts.append(f"`{run['command']}` ({facts}).")
    return "".join(f"\n{part}\n" for part in parts if part) + "\n"


if __name__ == "__main__":
    sys.exit(main())
