"""The Dockerfile has what docs/docker.md names, copies what is there, and its commands are the project's."""

from __future__ import annotations

import re
import shlex

from doc_pages import ROOT, commands

from mask2former_cli import COMMANDS

FILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
ARGUMENTS = set(re.findall(r"^ARG (\w+)", FILE, re.MULTILINE))
PAGE = (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")


def test_commands_of_the_page() -> None:
    typed = [command.words for command in commands() if command.words[0] == "docker"]
    assert {words[1] for words in typed} == {"build", "run"}
    for words in typed:
        if words[1] == "build":
            assert (ROOT / words[words.index("-f") + 1]).is_file()
            given = [words[i + 1].partition("=")[0] for i, word in enumerate(words) if word == "--build-arg"]
            assert set(given) <= ARGUMENTS, words
        else:
            image = next(i for i, word in enumerate(words) if re.fullmatch(r"mask2former(:\w+)?", word))
            assert words[image + 1] in COMMANDS, words


def test_every_argument_is_explained() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"\w+", row)} == ARGUMENTS


def test_devices_and_bases() -> None:
    """Compare devices of the file and of the page; each base image that either names has the tag of a version."""
    devices = re.search(r"^\| `DEVICE` \| `(\w+)` or `(\w+)`", PAGE, re.MULTILINE).groups()  # type: ignore[union-attr]
    assert set(re.findall(r"^    (\w+)\) ", FILE, re.MULTILINE)) == set(devices)
    bases = re.findall(r"^ARG BASE=(\S+)$", FILE, re.MULTILINE) + re.findall(r"BUILD_BASE=([\w./:-]+)", PAGE)
    assert len(bases) >= 2 and all(re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", base) for base in bases)


def test_no_stage_is_named_by_an_argument() -> None:
    """Compare the names of stages: Buildah leaves out one that only an argument names, and then finds no such image."""
    stages = re.findall(r"^FROM \S+ AS (\S+)$", FILE, re.MULTILINE)
    named = re.findall(r"^FROM (\S+)", FILE, re.MULTILINE)
    assert stages == ["build"] and set(named) == {"${BUILD_BASE}", "${BASE}"}
    assert re.search(r"^ARG BUILD_BASE=\$\{BASE\}$", FILE, re.MULTILINE)


def test_it_does_not_run_as_root() -> None:
    final = FILE[FILE.rindex("\nFROM ") :]
    assert re.search(r"^USER [1-9]\d*$", final, re.MULTILINE)
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", final, re.MULTILINE)
    assert shlex.split(entry.strip("[]")) == ["mask2former"]


def test_what_is_let_through_exists() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines and "mask2former" in let_through and "requirements" in let_through
    assert [name for name in let_through if not list(ROOT.glob(name))] == []
