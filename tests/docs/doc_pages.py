"""The pages of the documentation, read by a Markdown parser: their commands, Python blocks, links and names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "datasets/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
SHELL = {
    "",
    "bash",
    "sh",
    "shell",
    "console",
}  # no language: a shell; diagrams and output are "text"
SETTING = re.compile(r"[A-Z_][A-Z0-9_]*=")  # at the beginning of a command


@dataclass(frozen=True)
class Snippet:
    """A piece of a page.

    Attributes:
        page: its path below the root.
        line: where its block begins, from 1.
        text: what is to be typed: one command, one Python block, or what stands between two backticks.
    """

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"

    @property
    def words(self) -> list[str]:
        """The words as a shell splits them, without its comment and settings of the environment ahead."""
        words = shlex.split(self.text, comments=True)
        while words and SETTING.match(words[0]):
            words.pop(0)
        return words


@cache
def tokens(page: Path) -> list[Token]:
    return MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))


def _blocks(page: Path) -> Iterator[tuple[int, str, str]]:
    """Yield (line, language, text) of each block of code, fenced or indented."""
    for token in tokens(page):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            yield token.map[0] + 1, token.info.strip(), token.content


def commands() -> list[Snippet]:
    """Return each command of each block of a shell; lines that end with a backslash go on."""
    return [
        Snippet(page.relative_to(ROOT).as_posix(), line, command.strip())
        for page in PAGES
        for line, language, text in _blocks(page)
        if language in SHELL
        for command in text.replace("\\\n", " ").splitlines()
        if command.strip() and not command.lstrip().startswith("#")
        if page.parent.name != "datasets" or "python " in command  # beside how folders look
    ]


def python_blocks() -> list[Snippet]:
    """Return each block of Python."""
    return [
        Snippet(page.relative_to(ROOT).as_posix(), line, text)
        for page in PAGES
        for line, language, text in _blocks(page)
        if language == "python"
    ]


def inline(page: Path) -> Iterator[tuple[int, Token]]:
    """Yield (line, token) of what is inside paragraphs, tables and headings."""
    for token in tokens(page):
        if token.type == "inline":
            for child in token.children or ():
                yield (token.map or [0])[0] + 1, child


def quoted() -> list[Snippet]:
    """Return what stands between backticks."""
    return [
        Snippet(page.relative_to(ROOT).as_posix(), line, token.content)
        for page in PAGES
        for line, token in inline(page)
        if token.type == "code_inline"
    ]


def links() -> list[Snippet]:
    """Return what links and images point to."""
    return [
        Snippet(page.relative_to(ROOT).as_posix(), line, str(target))
        for page in PAGES
        for line, token in inline(page)
        if (target := token.attrGet("href") or token.attrGet("src"))
    ]


def anchors(page: Path) -> set[str]:
    """Return the names that headings of a page go by, as the usual hosts make them."""
    listed = tokens(page)
    titles = [listed[i + 1] for i, token in enumerate(listed) if token.type == "heading_open"]
    plain = ("".join(child.content for child in title.children or ()) for title in titles)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}
