"""Fixes that let Detectron2 0.6 run on today's NumPy and Pillow, and without its own compiled code.

Detectron2 0.6 was released in 2021 and reads names that NumPy and Pillow have since removed. The package
registry's copy of it also lacks ``detectron2._C``, whose operators (deformable convolution, rotated boxes) a mask
architecture never calls but whose import must succeed.

Each fix is made only where its fault is found: :func:`apply` changes nothing on a compiled main branch of Detectron2,
nor on a 0.6 that :mod:`mask2former_cli.patch_detectron2` has patched on disk, as ``make setup`` does.
"""

import importlib.util
import sys
import types
from pathlib import Path

import numpy
import PIL.Image


def apply() -> None:
    """Fix what is missing. Call it before the first import of a Detectron2 submodule; it is safe to repeat."""
    spec = importlib.util.find_spec("detectron2")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "Detectron2 is not installed. `mask2former doctor --install-detectron2` installs it (where the PATH lacks "
            "that: `python -m mask2former_cli.main doctor --install-detectron2`); in a checkout `make setup` does.",
            name="detectron2",
        )
    if _reads_removed_names(Path(spec.submodule_search_locations[0])):
        _restore_removed_names()
    if "detectron2._C" not in sys.modules and importlib.util.find_spec("detectron2._C") is None:
        _stand_in_for_compiled_code()


def _reads_removed_names(package: Path) -> bool:
    """Tell from the source, because 0.6 and the main branch give the same version number."""
    return "Image.LINEAR" in (package / "data" / "transforms" / "transform.py").read_text(encoding="utf-8")


def _restore_removed_names() -> None:
    for name, builtin in (("int", int), ("float", float), ("bool", bool), ("object", object), ("str", str)):
        if name not in vars(numpy):  # not hasattr(): NumPy answers removed names with a warning
            setattr(numpy, name, builtin)
    if not hasattr(PIL.Image, "LINEAR"):
        PIL.Image.LINEAR = PIL.Image.BILINEAR  # type: ignore[attr-defined]


def _stand_in_for_compiled_code() -> None:
    stand_in = types.ModuleType("detectron2._C", "Stand-in for compiled code that this Detectron2 lacks.")
    stand_in.__file__ = __file__
    stand_in.get_compiler_version = lambda: "not compiled"  # type: ignore[attr-defined]
    stand_in.get_cuda_version = lambda: "not compiled"  # type: ignore[attr-defined]
    stand_in.has_cuda = lambda: False  # type: ignore[attr-defined]
    sys.modules["detectron2._C"] = stand_in

    # Detectron2's faster COCO evaluation is compiled too; pycocotools' own gives the same numbers.
    from pycocotools.cocoeval import COCOeval

    fast_eval_api = types.ModuleType("detectron2.evaluation.fast_eval_api")
    fast_eval_api.COCOeval_opt = COCOeval  # type: ignore[attr-defined]
    sys.modules["detectron2.evaluation.fast_eval_api"] = fast_eval_api
