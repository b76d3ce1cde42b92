"""The site's navigation (mkdocs.yml) names every page, and nothing that is not there. `make site` builds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
OUTSIDE: dict[str, str] = SITE["extra"]["outside"]


def named(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    children = nav.values() if isinstance(nav, dict) else nav
    return [page for child in children for page in named(child)]


def source(page: str) -> list[Path]:
    """Return where a page of the site may come from."""
    if page.startswith("api/"):
        module = ROOT / page.removeprefix("api/").removesuffix(".md").replace(".", "/")
        return [module.with_suffix(".py"), module / "__init__.py"]
    return [ROOT / OUTSIDE.get(page, f"docs/{page}")]


def test_every_page_is_named_once() -> None:
    pages = named(SITE["nav"])
    written = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert len(written) > 20 and len(pages) == len(set(pages))
    assert written | set(OUTSIDE) == {page for page in pages if not page.startswith("api/")}


def test_every_named_page_is_there() -> None:
    assert [page for page in named(SITE["nav"]) if not any(path.is_file() for path in source(page))] == []


def test_the_site_has_a_home_page_and_takes_no_page_twice() -> None:
    assert OUTSIDE["index.md"] == "README.md"
    assert not {page for page in OUTSIDE if (ROOT / "docs" / page).exists()}
    assert len(set(OUTSIDE.values())) == len(OUTSIDE)
