"""The table of commands, and running one of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        summary: its line in ``mask2former --help``.
        grammar: module that has ``parser(prog)``; it imports nothing heavy.
        runner: module that has ``run(args)``, which returns an exit status.
    """

    summary: str
    grammar: str
    runner: str


def _command(name: str, summary: str) -> Command:
    return Command(summary, f"mask2former_cli.{name}", f"mask2former.cli.{name}")


COMMANDS = {
    "predict": _command("predict", "draw a model's results over images and films"),
    "quickstart": _command("quickstart", "draw a small data set, train on it, score, draw predictions: ten minutes"),
    "train-custom": _command("train_custom", "train on data of your own, without writing code"),
    "check": _command("check", "list what is wrong with a data set, and what is in it"),
    "train": _command("train", "train the model of a configuration"),
    "evaluate": _command("evaluate", "score a model on the data set of its configuration"),
    "draw": _command("draw", "draw predictions over a data set's images, beside the ground truth"),
    "report": _command("report", "write a page of a training's curves"),
    "compare": _command("compare", "write a page that compares runs"),
    "export": _command("export", "write a model as a file for torch.export or ONNX"),
    "convert": _command("convert", "convert weights between formats"),
    "app": _command("app", "serve a web page that draws a model's results"),
    "zoo": _command("zoo", "list the published models, or fetch some"),
    "analyze": _command("analyze", "count parameters, FLOPs and time of a model, part by part"),
    "benchmark": _command("benchmark", "measure a model's speed and memory on this machine"),
    "ops": _command("ops", "say which operators are compiled here"),
    "doctor": Command("say what is installed, what is missing, and how to get it", *["mask2former_cli.doctor"] * 2),
}
INSTALLED_APART = ("torch", "detectron2")  # as the doctor tells


def run_command(name: str, arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Parse and run a command.

    Args:
        name: one of :data:`COMMANDS`.
        arguments: the words after its name; those of the command line if None.
        prog: its name in usage and examples; ``mask2former NAME`` if None.

    Returns:
        The exit status.
    """
    command = COMMANDS[name]
    words = list(sys.argv[1:] if arguments is None else arguments)
    args = import_module(command.grammar).parser(prog or f"mask2former {name}").parse_args(words)
    args.words = words  # for a job that runs them elsewhere
    try:
        runner = import_module(command.runner)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in INSTALLED_APART:
            raise
        print(f"error: {error}\n`mask2former doctor` says what is missing, and how to get it.", file=sys.stderr)
        return 1
    return runner.run(args)
