"""Shared by the sub-commands of benchmark.py: their parser, files of numbers, charts."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mask2former.dashboard.run_info import git_commit


def sub_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], None],
    *,
    what: str,
    about: str,
    columns: str,
) -> Callable[..., Any]:
    """Add a sub-command, which ``run`` carries out.

    Args:
        what: what it measures, in a line.
        about: its description.
        columns: how to read its tables.

    Returns:
        Its ``add_argument``.
    """
    form = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(name, help=what, description=about, epilog=columns, formatter_class=form)
    command.set_defaults(run=run)
    return command.add_argument


def write_numbers(report: dict[str, Any], file: Path) -> None:
    """Write a report and the run that gave it as JSON, create missing folders, and print the file's name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    words = shlex.join(sys.argv[1:]) if Path(sys.argv[0]).name == "benchmark.py" else ""
    words = re.sub(r" --(json|chart) \S+", "", f" {words}")
    words = re.sub(r"(?<= )/\S*/", "", words)  # where files are is this machine's affair
    run = {
        "command": f"tools/benchmark.py{words}".strip(),
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "commit": git_commit(Path(__file__)) or "",
    }
    file.write_text(json.dumps({"run": run, **report}, indent=1))
    print(f"\nnumbers: {file}")


def hand_out(
    arguments: argparse.Namespace, report: dict[str, Any], rows: Sequence[Any], draw: Callable[[Any, Path], None]
) -> None:
    """Write the numbers to ``--json`` and a chart of the rows to ``--chart``, where they were asked for."""
    if arguments.json:
        write_numbers(report, arguments.json)
    if arguments.chart:
        draw(rows, arguments.chart)
        print(f"chart: {arguments.chart}")


def save_chart(figure: Any, file: Path) -> None:
    """Write a matplotlib figure in the format of the file's suffix, and create missing folders."""
    from matplotlib import pyplot

    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
