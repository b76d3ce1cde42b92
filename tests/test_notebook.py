"""The notebook: its cells say what exists, and run."""

from __future__ import annotations

import ast
import base64
import inspect
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mask2former import Predictor

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
LARGEST = 1_500_000  # bytes, most of them the two images that the notebook shows


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def known(small_training: Path) -> dict[str, Any]:
    """What the names of the notebook stand for."""
    predictor = Predictor(small_training, device="cpu", threshold=0.01)
    result = predictor(np.zeros((48, 64, 3), np.uint8))
    results = dict.fromkeys(("result", "each"), result)
    return {"predictor": predictor, "own": predictor, "instances": result.instances, "Predictor": Predictor, **results}


def test_cells_say_what_exists(known: dict[str, Any]) -> None:
    looked_up, called = 0, 0
    for cell in code_cells():
        for node in ast.walk(compile(cell, str(NOTEBOOK), "exec", ast.PyCF_ONLY_AST)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
                looked_up += 1
                assert not node.attr.startswith("_") and hasattr(known[node.value.id], node.attr), ast.unparse(node)
            if isinstance(node, ast.Call) and (function := called_function(node.func, known)) is not None:
                called += 1
                taken = inspect.signature(function).parameters
                assert {keyword.arg for keyword in node.keywords} <= taken.keys() | drawing(taken), ast.unparse(node)
    assert looked_up > 8 and called > 5


def called_function(node: ast.expr, known: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
        return getattr(known[node.value.id], node.attr)
    return None


def drawing(taken: Any) -> set[str]:
    """What ``Result.save`` hands on."""
    return {"legend", "beside", "names", "shades"} if "drawing" in taken else set()


def outputs() -> list[dict[str, Any]]:
    """Return the stored outputs of all code cells."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [output for cell in cells for output in cell.get("outputs", ())]


def readable() -> str:
    """Return all that a reader sees as text: images in base64 hold any letters."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    for output in outputs():
        data = {key: value for key, value in output.get("data", {}).items() if not key.startswith("image/")}
        texts += ["".join(value) for value in (output.get("text", ""), *data.values())]
    return "\n".join(texts)


def test_it_is_small_and_names_no_machine() -> None:
    assert NOTEBOOK.stat().st_size < LARGEST
    assert not re.findall(r"(?<![\w.:/])/\w+/", readable()), "a path that begins at the root"


def test_it_is_stored_with_its_outputs() -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "not run from the top"
    assert all(cell["outputs"] for cell in cells)
    assert {output["output_type"] for output in outputs()} == {"stream", "execute_result"}  # no errors, no warnings
    assert {output["name"] for output in outputs() if "name" in output} == {"stdout"}
    pngs = [output["data"]["image/png"] for output in outputs() if "image/png" in output.get("data", {})]
    sizes = [Image.open(io.BytesIO(base64.b64decode("".join(png)))).size for png in pngs]
    assert len(sizes) == 2 and min(min(sizes)) > 128


@pytest.mark.slow
def test_it_runs(small_training: Path, datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    why = 'needs nbclient and ipykernel: pip install "mask2former[notebook]"'
    nbclient, nbformat = (pytest.importorskip(name, reason=why) for name in ("nbclient", "nbformat"))
    pytest.importorskip("ipykernel", reason=why)
    monkeypatch.setenv("MODEL", str(small_training))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=900, startup_timeout=900, resources=folder).execute()
    shown = [output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert sum("image/png" in data for data in shown) == 2
    assert {"drawn.png", "drawn.json", "own"} <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "own" / "report.html").is_file()
