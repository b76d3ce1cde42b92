"""docs/models.md is up to date with the table of published models, and what it points to is there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from mask2former.zoo import models

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("write_model_table", ROOT / "tools/write_model_table.py")
assert SPEC and SPEC.loader
script = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)
PAGE = script.PAGE.read_text()


def test_the_page_is_up_to_date() -> None:
    assert script.written(PAGE) == PAGE, "run tools/write_model_table.py"


def test_every_model_has_its_row() -> None:
    rows = re.findall(r"^\| \[`(.+?)`\].*?\| ([\d. |]+) \|$", PAGE, re.MULTILINE)
    found = {name: [float(score) for score in scores.split(" | ")] for name, scores in rows}
    assert found == {name: list(model.scores.values()) for name, model in models().items()}


def test_files_and_configurations_are_there() -> None:
    linked = re.findall(r"\]\((\.\./[^)]+)\)", PAGE)
    assert len(linked) == len(models()) and all((script.PAGE.parent / link).is_file() for link in linked)
    for name in re.findall(r"`((?:ade20k|quickstart)/[a-z0-9_/]+)`", PAGE):
        assert (ROOT / "configs" / f"{name}.yaml").is_file(), name
    for file in re.findall(r"`((?:mask2former|tests|tools)/[\w/]+\.py)`", PAGE):
        assert (ROOT / file).is_file(), file
