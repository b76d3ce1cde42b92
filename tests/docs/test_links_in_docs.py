"""Links, and names of files and of Python's objects, lead to something."""

from __future__ import annotations

import re
from importlib import import_module

import pytest
from doc_pages import PAGES, ROOT, Snippet, anchors, links, quoted

FOLDERS = ("configs", "datasets", "demo", "docs", "mask2former", "mask2former_cli", "mask2former_video", "requirements")
FOLDERS += ("tests", "tools")
FILE = re.compile(rf"(?<![\w/])(?:{'|'.join(FOLDERS)})/[\w./*-]+")
# What appears there once something has been run.
MADE = ("datasets/quickstart", "datasets/clips", "datasets/video_quickstart", "mask2former/ops/libmask2former")
MADE += ("mask2former/modeling/pixel_decoder/ops",)  # the published repository's, which this one has no need of
DOTTED = re.compile(r"(mask2former(?:_cli|_video)?(?:\.\w+)+)(?:\(.*\))?")


def test_links_lead_to_pages_and_headings() -> None:
    missing, checked = [], 0
    for link in links():
        if "://" in link.text or link.text.startswith("mailto:"):
            continue
        path, _, anchor = link.text.partition("#")
        page = ROOT / link.page
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(str(link))
        checked += 1
    assert not missing, "\n".join(missing)
    assert checked > 100


def named_files() -> list[Snippet]:
    return [
        Snippet(snippet.page, snippet.line, name)
        for snippet in quoted()
        for name in FILE.findall(snippet.text)
        if not name.startswith(MADE)
    ]


def test_files_that_are_named_exist() -> None:
    missing = [str(name) for name in named_files() if not list(ROOT.glob(name.text.rstrip("/.")))]
    assert not missing, "\n".join(missing)
    assert len(named_files()) > 100


def test_names_of_the_package_exist() -> None:
    missing, checked = [], 0
    for snippet in quoted():
        if (found := DOTTED.fullmatch(snippet.text)) and not snippet.text.endswith((".so", ".py", ".json")):
            checked += 1
            try:
                look_up(found[1])
            except (ImportError, AttributeError) as error:
                missing.append(f"{snippet}: {error}")
    assert not missing, "\n".join(missing)
    assert checked > 15


def look_up(name: str) -> object:
    """Return the module, or what a module or class holds under a name."""
    words = name.split(".")
    found: object = import_module(words[0])
    for position, word in enumerate(words[1:], start=1):
        if not hasattr(found, word):
            import_module(".".join(words[: position + 1]))
        found = getattr(found, word)
    return found


@pytest.mark.parametrize("name", ["mask2former.no_such_module", "mask2former.files.no_such_function"])
def test_names_that_do_not_exist_are_found_out(name: str) -> None:
    with pytest.raises((ImportError, AttributeError)):
        look_up(name)


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = {link.text.partition("#")[0] for link in links() if link.page == "docs/README.md"}
    pages = {page.name for page in PAGES if page.parent == ROOT / "docs" and page.name != "README.md"}
    assert pages <= listed
