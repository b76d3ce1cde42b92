"""The mending of an installed Detectron2."""

from __future__ import annotations

import ast
import importlib.util
import os
from pathlib import Path
from types import ModuleType

import detectron2
import numpy
import PIL.Image
import pytest

from mask2former_cli import patch_detectron2

INSTALLED = Path(detectron2.__file__).parent


@pytest.fixture
def tool() -> ModuleType:
    return patch_detectron2


@pytest.fixture
def release(tool: ModuleType, tmp_path: Path) -> Path:
    """Files that hold what the tool looks for, among other lines."""
    package = tmp_path / "detectron2"
    for name, edits in {"__init__.py": [], **tool.EDITS}.items():
        file = package / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("first\n" + "".join(f"{old.rstrip()}\nbetween\n" for old, _ in edits) + "last\n")
    return package


def contents(folder: Path) -> dict[Path, str]:
    return {file: file.read_text() for file in sorted(folder.rglob("*")) if file.is_file()}


def removed_names(file: Path) -> list[str]:
    """Names of NumPy's and Pillow's that a file reads and today's releases lack."""
    modules = {"np": numpy, "numpy": numpy, "Image": PIL.Image}
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)]
    named = [(node.value.id, node.attr) for node in nodes if isinstance(node.value, ast.Name)]
    return [
        f"{name}.{attribute}" for name, attribute in named if name in modules and not known(modules[name], attribute)
    ]


def known(module: ModuleType, name: str) -> bool:
    return (
        name in vars(module)
        or name in getattr(module, "__all__", ())
        or importlib.util.find_spec(f"{module.__name__}.{name}") is not None
    )


def test_the_installed_one_reads_no_name_that_is_gone() -> None:
    """Asks the libraries themselves, not the tool's table."""
    files = list(INSTALLED.rglob("*.py"))
    assert len(files) > 100
    found = {str(file.relative_to(INSTALLED)): names for file in files if (names := removed_names(file))}
    assert not found, f"run tools/patch_detectron2.py: {found}"


def test_a_release_is_mended_once(tool: ModuleType, release: Path) -> None:
    before = contents(release)
    assert sorted(tool.patch(release)) == sorted(["_C.py", *tool.EDITS])
    after = contents(release)
    assert tool.patch(release) == [] and contents(release) == after
    for file, text in before.items():
        lines = after[file].splitlines()
        assert [line for line in lines if line in ("first", "between", "last")] == [
            line for line in text.splitlines() if line in ("first", "between", "last")
        ]
    namespace: dict = {}
    exec(after[release / "_C.py"], namespace)
    assert namespace["has_cuda"]() is False and namespace["get_compiler_version"]() == "not compiled"


def test_what_was_left_half_done_is_finished(tool: ModuleType, release: Path) -> None:
    whole = release.parent / "whole"
    release.rename(whole)
    before = contents(whole)
    tool.patch(whole)
    expected = {file.relative_to(whole): text for file, text in contents(whole).items()}
    for file, text in list(before.items())[::2]:
        file.write_text(text)
    (whole / "data/transforms/transform.py").write_text(before[whole / "data/transforms/transform.py"])
    tool.patch(whole)
    assert {file.relative_to(whole): text for file, text in contents(whole).items()} == expected


@pytest.mark.parametrize("line", ["another line\n", ""])
def test_unknown_sources_are_refused_and_left(tool: ModuleType, release: Path, line: str) -> None:
    file = release / "structures/masks.py"
    file.write_text(file.read_text().replace("return mask_util.decode(rle).astype(np.bool)\n", line))
    before = contents(release)
    with pytest.raises(
        ValueError, match=r"masks\.py: found 0 times, not once: .*decode\(rle\).*doctor --install-detectron2"
    ):
        tool.patch(release)
    assert contents(release) == before


def test_the_main_branch_is_left_alone(tool: ModuleType, release: Path) -> None:
    (release / "data/transforms/transform.py").write_text("interp=Image.BILINEAR, fill=0, other=1\n")
    (release / "_C.cpython-311-x86_64-linux-gnu.so").write_text("")
    before = contents(release)
    assert tool.patch(release) == [] and contents(release) == before


def test_an_installers_cache_is_not_written_to(tool: ModuleType, release: Path, tmp_path: Path) -> None:
    file, cached = release / "data/build.py", tmp_path / "cached.py"
    os.link(file, cached)
    before, mode = cached.read_text(), file.stat().st_mode
    tool.patch(release)
    assert cached.read_text() == before != file.read_text() and file.stat().st_mode == mode
