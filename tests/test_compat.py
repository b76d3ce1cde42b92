"""compat.py: each step only where the fault is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mask2former import compat


@pytest.mark.parametrize(("source", "old"), [("interp=Image.LINEAR", True), ("interp=Image.BILINEAR", False)])
def test_names_are_restored_for_the_release_that_reads_them(tmp_path: Path, source: str, old: bool) -> None:
    (tmp_path / "data" / "transforms").mkdir(parents=True)
    (tmp_path / "data" / "transforms" / "transform.py").write_text(source)
    assert compat._reads_removed_names(tmp_path) is old


UNMENDED = """
import importlib.util, sys
import numpy, PIL.Image
spec = importlib.util.spec_from_file_location("compat", sys.argv[1])
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)
compat.apply()
from detectron2 import _C
from detectron2.data.transforms import transform
from detectron2.evaluation.fast_eval_api import COCOeval_opt
from pycocotools.cocoeval import COCOeval
assert transform.INTERP == PIL.Image.BILINEAR and transform.KIND is int and COCOeval_opt is COCOeval
assert _C.has_cuda() is False
compat.apply()
assert sys.modules["detectron2._C"] is _C
"""


def test_a_release_that_nobody_has_mended_works(tmp_path: Path) -> None:
    """Stand in for a Detectron2 0.6 that a user installed; `make setup` mends the files of its own."""
    transforms = tmp_path / "detectron2" / "data" / "transforms"
    transforms.mkdir(parents=True)
    (tmp_path / "detectron2" / "__init__.py").touch()
    (transforms / "transform.py").write_text(
        "import numpy as np\nfrom PIL import Image\nINTERP, KIND = Image.LINEAR, np.int\n"
    )
    command = [sys.executable, "-c", UNMENDED, compat.__file__]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_without_detectron2_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"doctor --install-detectron2.*make setup"):
        compat.apply()
