"""The pages: those that are generated are up to date, and links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from detectron2.config import CfgNode, get_cfg

from mask2former import add_maskformer2_config

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "docs" / "quickstart.ipynb",
]


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_config_docs", ROOT / "tools" / "make_config_docs.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where its dataclass looks its annotations up
    spec.loader.exec_module(module)
    return module


def keys(node: CfgNode, prefix: str = "") -> set[str]:
    inner = {
        key for name, value in node.items() if isinstance(value, CfgNode) for key in keys(value, f"{prefix}{name}.")
    }
    return inner | {prefix + name for name, value in node.items() if not isinstance(value, CfgNode) or not value}


def test_configuration_page_is_up_to_date(generator: ModuleType) -> None:
    assert (ROOT / "docs" / "configs.md").read_text() == generator.page(), "run tools/make_config_docs.py"


def test_configuration_page_has_every_key(generator: ModuleType) -> None:
    before, after = get_cfg(), get_cfg()
    add_maskformer2_config(after)
    listed = {key.name for _, group in generator.sections() for key in group}
    assert keys(after) - keys(before) <= listed <= keys(after)


def test_links_lead_to_files() -> None:
    missing = []
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            path = link.split("#")[0]
            if path and "://" not in path and not (page.parent / path).exists():
                missing.append(f"{page.relative_to(ROOT)}: {link}")
    assert not missing, "\n".join(missing)


def test_commands_of_the_reliability_page_select_tests() -> None:
    """Each row of a table names a test file that is there, and ``-k`` words that are parts of its tests' names."""
    rows = [line for line in (ROOT / "docs/reliability.md").read_text().splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| tried")]
    assert len(rows) > 20
    for row in rows:
        command = re.fullmatch(r"\| .* \| `(?:TORTURE_EXAMPLES=\d+ )?pytest (tests/\S+\.py)(?: -(\w) (.+))?` \|", row)
        assert command, row
        file, option, words = command.groups()
        source = (ROOT / file).read_text()
        names = " ".join(re.findall(r"def (test_\w+)", source))
        assert names, row
        if option == "k":
            assert all(word in names for word in words.strip('"').split(" or ")), row
        else:
            assert option in (None, "m") and (not words or words.upper() in source), row


def test_make_torture_names_files_that_are_there() -> None:
    (listed,) = re.findall(r"^TORTURE = ((?:.*\\\n)*.*)\n", (ROOT / "Makefile").read_text(), re.MULTILINE)
    files = listed.replace("\\", " ").split()
    assert len(files) > 10 and [file for file in files if not (ROOT / file).is_file()] == []
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if "TORTURE" in path.read_text()]
    assert {path.relative_to(ROOT).as_posix() for path in marked} - {"tests/test_docs.py"} <= set(files)
