"""The rooms of the house: who may import whom, and who may see the configuration. Read off the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mask2former"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A room is the longest of these names that a module's begins with. It may import itself and what is listed.
MAY_IMPORT: dict[str, set[str]] = {
    # mask2former/__init__.py; the last two when they are asked for
    "": {"compat", "config", "modeling", "evaluation.tta", "predictor"},
    "compat": set(),
    "config": set(),
    "structures": set(),
    "processor": set(),
    "labels": set(),
    "ops": set(),
    "modeling.layers": {"structures", "ops"},
    "modeling.backbones": {"structures", "modeling.layers", "processor"},
    "modeling.pixel_decoders": {"structures", "modeling.layers"},
    "modeling.decoders": {"structures", "modeling.layers"},
    "modeling.heads": {"structures", "modeling.layers", "modeling.pixel_decoders", "modeling.decoders"},
    "modeling.mask_losses": {"structures", "modeling.layers"},
    "modeling.matcher": {"structures", "modeling.layers", "modeling.mask_losses"},
    "modeling.matched_masks": {"modeling.mask_losses"},
    "modeling.criterion": {
        "structures",
        "modeling.layers",
        "modeling.mask_losses",
        "modeling.matched_masks",
        "modeling.matcher",
    },
    "modeling.postprocess": {"structures", "labels", "modeling.layers"},
    "modeling": {"structures", "labels", "modeling"},
    "data": {"structures"},
    "download": set(),
    "zoo": {"download"},
    "checkpoint": {"zoo"},
    "evaluation": {"labels", "data"},
    "evaluation.tta": {"data", "modeling"},  # a model around a model
    "visualization": {"labels", "data"},
    "dashboard": {"labels", "data", "evaluation", "visualization"},
    "engine": {
        "",
        "config",
        "processor",
        "modeling",
        "data",
        "checkpoint",
        "evaluation",
        "dashboard",
        "visualization",
        "zoo",
    },
    "tiling": {"labels"},
    "predictor": {
        *(
            "",
            "config",
            "labels",
            "modeling",
            "tiling",
            "data",
            "checkpoint",
            "engine",
            "visualization",
            "zoo",
            "download",
        ),
    },
    "export": {"structures", "ops", "modeling"},
}
SEES_CONFIG = ("config", "data", "evaluation.build", "engine", "predictor")


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def room(name: str) -> str:
    candidates = [r for r in MAY_IMPORT if r and (name == r or name.startswith(r + "."))]
    return max(candidates, key=len, default="")


def imported(tree: ast.Module) -> Iterator[str]:
    """Our own modules that a file imports anywhere, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            base = node.module or ""
            # `from mask2former import data` names a module, `from mask2former.ops import f` may name either.
            names = [f"{base}.{alias.name}" if base == "mask2former" else base for alias in node.names]
        else:
            continue
        yield from (n.removeprefix("mask2former").lstrip(".") for n in names if n.split(".")[0] == "mask2former")


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_down_only(path: Path) -> None:
    name = module_name(path)
    own = room(name)
    assert name == "" or own, f"{name} is a new room: say in MAY_IMPORT what it may import"
    for other in imported(ast.parse(path.read_text())):
        target = room(other)
        assert target == own or any(
            target == allowed or (allowed and target.startswith(allowed + ".")) for allowed in MAY_IMPORT[own]
        ), f"{name} may not import mask2former.{other}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_only_from_config_sees_the_configuration(path: Path) -> None:
    name = module_name(path)
    if name.startswith(SEES_CONFIG):
        return
    tree = ast.parse(path.read_text())
    allowed = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and ("from_config" in node.name or _takes_cfg(node))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in ("cfg", "MetadataCatalog") and node not in allowed:
            pytest.fail(f"{name}, line {node.lineno}: {node.id} belongs in from_config")


def _takes_cfg(node: ast.FunctionDef) -> bool:
    """A private helper of ``from_config``."""
    return node.name.startswith("_") and [a.arg for a in node.args.args] == ["cfg"]
