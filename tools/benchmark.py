"""Measure this project on this machine. Each sub-command has a --help of its own."""

from __future__ import annotations

import argparse

from benchmarks import backends, bulk, data, eomt, eval, families, film, infer, op, peaks, train

COMMANDS = [op, infer, backends, families, train, peaks, data, eval, film, bulk, eomt]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(title="what to measure", required=True)
    for command in COMMANDS:
        command.add_to(commands)
    arguments = parser.parse_args(words)
    arguments.run(arguments)


if __name__ == "__main__":
    main()
