"""Commands of the pages are understood by the programs that they name: flags, configurations, keys, targets."""

from __future__ import annotations

import argparse
import importlib.util
import re
import runpy
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
from doc_pages import ROOT, Snippet, commands, quoted

from mask2former import zoo
from mask2former.config import load_config
from mask2former_cli import COMMANDS
from mask2former_cli import main as program

OTHERS = {"pip", "export", "cd", "git", "docker"}  # programs that are not this project's
LAUNCHERS = {"torchrun", "srun"}  # that start this project's scripts
# Files that a reader has: the page is about having them. Configurations are looked up all the same, if they are here.
OWN_CONFIGS = {"FILE", "Mask2Former/configs/coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml"}
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
PARSES = re.compile(r"\.parse_args\(|run_command\(")
EXTRAS = re.compile(r"\[([\w,]+)\]")


@dataclass
class Understood(BaseException):
    """Raised in place of going on, once a command's words have been parsed."""

    arguments: argparse.Namespace
    parser: argparse.ArgumentParser


@pytest.fixture(autouse=True)
def parsing_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(self: argparse.ArgumentParser, *words: object, **more: object) -> None:
        raise Understood(parse(self, *words, **more), self)  # type: ignore[call-overload]

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.chdir(ROOT)


def understand(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Understood | None:
    """Start a program of this project, and return what its parser made of the words; None if it has no parser."""
    try:
        if words[0] == "mask2former":
            program.main(words[1:])
        elif words[0] == "-m":
            monkeypatch.setattr(sys, "argv", words[1:])
            if not PARSES.search(source_of(words[1]).read_text()):
                assert len(words) == 2, f"{words[1]} takes no arguments"
                return None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # that it is imported already
                runpy.run_module(words[1], run_name="__main__")
        else:
            script = script_of(words[0])
            if not PARSES.search(script.read_text()):
                assert len(words) == 1, f"{words[0]} takes no arguments"
                return None
            monkeypatch.setattr(sys, "argv", words)
            monkeypatch.syspath_prepend(str(script.parent))
            runpy.run_path(str(script), run_name="__main__")
    except Understood as understood:
        return understood
    raise AssertionError(f"{words[0]} went on without parsing its words")


def script_of(name: str) -> Path:
    """Return the file; text names those of tools/, demo/ and datasets/ by their last name alone."""
    places = [ROOT / name, *(ROOT / folder / name for folder in ("tools", "demo", "datasets"))]
    found = next((place for place in places if place.is_file()), None)
    assert found is not None, f"there is no script {name}"
    return found


def source_of(module: str) -> Path:
    """Return the file that ``python -m`` runs."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, f"there is no module {module}"
    return Path(spec.origin).with_name("__main__.py") if spec.submodule_search_locations else Path(spec.origin)


def own_words(words: list[str]) -> list[str] | None:
    """Return the words from this project's program on; None if it is another program's command."""
    if words[0] in LAUNCHERS:
        words = words[next(i for i, word in enumerate(words) if word == "python" or word.endswith(".py")) :]
    if Path(words[0]).name in ("python", "python3"):
        words = words[1:]
    if words[:1] == ["-m"]:
        return words if words[1].startswith("mask2former") else None
    return words if words[0] == "mask2former" or words[0].endswith(".py") else None


def check(snippet: Snippet, monkeypatch: pytest.MonkeyPatch) -> None:
    words = snippet.words
    if words[0] == "make":
        assert words[1] in TARGETS, snippet
        return
    if words[0] in OTHERS or (words[0] == "python" and words[1] == "-m" and "mask2former" not in words[2]):
        extras = {name for found in EXTRAS.findall(snippet.text) for name in found.split(",")}
        assert extras <= known_extras(), snippet
        return
    own = own_words(words)
    assert own is not None, f"{snippet}: no program that is known"
    understood = understand(own, monkeypatch)
    if understood is not None:
        check_arguments(vars(understood.arguments))


def check_arguments(arguments: dict[str, object]) -> None:
    """Read the configuration that is named, with the keys given, and look names of models up."""
    config, options = arguments.get("config_file"), arguments.get("opts") or []
    model = arguments.get("model")
    if config and config not in OWN_CONFIGS and config != "...":
        load_config(str(config), [word for word in options if word != "..."])
    elif options:
        keys = options[::2]
        base = load_config("coco/panoptic/r50")
        assert all(key in flat(base) for key in keys), keys
    if isinstance(model, str) and model.endswith(".yaml"):
        load_config(model, list(options))
    elif isinstance(model, str) and model.startswith("coco/"):
        assert zoo.find_model(model), f"{model} is not published"


def flat(node: dict, prefix: str = "") -> set[str]:
    inner = {key for name, value in node.items() if isinstance(value, dict) for key in flat(value, f"{prefix}{name}.")}
    return inner | {prefix + name for name in node}


def known_extras() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text()
    (section,) = re.findall(r"^\[project\.optional-dependencies\]\n((?:[^\[\n].*\n)+)", text, re.MULTILINE)
    return set(re.findall(r"^(\w+) =", section, re.MULTILINE))


@pytest.mark.parametrize("page", sorted({command.page for command in commands()}))
def test_commands_are_understood(page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    wrong = []
    for command in commands():
        if command.page == page:
            try:
                check(command, monkeypatch)
            except SystemExit as stopped:
                wrong.append(f"{command}\n  exit status {stopped.code}: {capsys.readouterr().err.strip()[-300:]}")
            except Exception as error:
                wrong.append(f"{command}\n  {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


def mentions() -> list[Snippet]:
    """Return what stands between backticks and begins with a program of this project, followed by words."""
    ours = re.compile(r"(?:(?:\S*/)?python3? )?(?:-m mask2former\S*|mask2former|make|\S+\.py) [\w-].*")
    return [snippet for snippet in quoted() if ours.fullmatch(snippet.text)]


def test_programs_and_flags_that_are_mentioned_exist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Text may leave out what a command needs besides, so that its flags alone are looked up."""
    wrong = []
    for snippet in mentions():
        words = [word for word in snippet.words if word != "..."]
        if words[0] == "mask2former" and (words[1] == "COMMAND" or "," in words[1]):
            names = re.findall(r"(?<!-)\b[a-z][a-z-]+\b", snippet.text.partition(" ")[2])
            assert set(names) <= COMMANDS.keys(), snippet
            continue
        if words[0] == "make":
            wrong += [] if words[1] in TARGETS else [f"{snippet}: no such target"]
            continue
        own = own_words(words)
        assert own is not None, snippet
        length = 2 if own[0] in ("mask2former", "-m") or own[0].endswith("benchmark.py") else 1
        with pytest.raises(SystemExit) as stopped:
            understand([*own[:length], "--help"], monkeypatch)
        said = capsys.readouterr()
        flags = {word.split("=")[0] for word in own[length:] if word.startswith("--")} - {"--help"}
        known = set(re.findall(r"--[\w-]+", said.out))
        if stopped.value.code or not flags <= known:
            wrong.append(f"{snippet}: {said.err.strip()[-200:]} {sorted(flags - known)}")
    assert not wrong, "\n".join(wrong)
    assert len(mentions()) > 30
