"""Mending of an installed Detectron2 0.6 for today's NumPy and Pillow, and for having no compiled code.

It does on disk what ``mask2former/compat.py`` does in memory, so that Detectron2 can be imported first, or alone, and
halves the time that it takes to import (:mod:`mask2former_cli.lazy_torchvision`). It imports nothing from Detectron2,
changes nothing when repeated, and leaves the main branch alone, which needs no mending.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from mask2former_cli import lazy_torchvision

Edit = tuple[str, str]  # text of the release, found exactly once, and its replacement

# NumPy 1.24 and Pillow 10 removed names that the release reads.
EDITS: dict[str, list[Edit]] = {
    "data/build.py": [
        ("histogram = np.zeros((num_classes,), dtype=np.int)", "histogram = np.zeros((num_classes,), dtype=int)"),
        ('if not x.get("iscrowd", 0)], dtype=np.int\n', 'if not x.get("iscrowd", 0)], dtype=int\n'),
    ],
    "data/datasets/pascal_voc.py": [("fileids = np.loadtxt(f, dtype=np.str)", "fileids = np.loadtxt(f, dtype=str)")],
    "evaluation/pascal_voc_evaluation.py": [
        (
            '        difficult = np.array([x["difficult"] for x in R]).astype(np.bool)',
            '        difficult = np.array([x["difficult"] for x in R]).astype(bool)',
        ),
    ],
    "evaluation/sem_seg_evaluation.py": [
        ("pred = np.array(output, dtype=np.int)", "pred = np.array(output, dtype=int)"),
        ("gt = np.array(Image.open(f), dtype=np.int)", "gt = np.array(Image.open(f), dtype=int)"),
        ("acc = np.full(self._num_classes, np.nan, dtype=np.float)", "acc = np.full(self._num_classes, np.nan)"),
        ("iou = np.full(self._num_classes, np.nan, dtype=np.float)", "iou = np.full(self._num_classes, np.nan)"),
        (
            "tp = self._conf_matrix.diagonal()[:-1].astype(np.float)",
            "tp = self._conf_matrix.diagonal()[:-1].astype(float)",
        ),
        (
            "np.sum(self._conf_matrix[:-1, :-1], axis=0).astype(np.float)",
            "np.sum(self._conf_matrix[:-1, :-1], axis=0).astype(float)",
        ),
        (
            "np.sum(self._conf_matrix[:-1, :-1], axis=1).astype(np.float)",
            "np.sum(self._conf_matrix[:-1, :-1], axis=1).astype(float)",
        ),
    ],
    "structures/masks.py": [
        ("return np.zeros((height, width)).astype(np.bool)", "return np.zeros((height, width)).astype(bool)"),
        ("return mask_util.decode(rle).astype(np.bool)", "return mask_util.decode(rle).astype(bool)"),
        ("torch.from_numpy(np.asarray(keep, dtype=np.bool))", "torch.from_numpy(np.asarray(keep, dtype=bool))"),
    ],
    "utils/video_visualizer.py": [
        ("is_crowd = np.zeros((len(instances),), dtype=np.bool)", "is_crowd = np.zeros((len(instances),), dtype=bool)"),
    ],
    "utils/visualizer.py": [
        ("(self._seg != empty_ids[0]).numpy().astype(np.bool)", "(self._seg != empty_ids[0]).numpy().astype(bool)"),
        (
            "yield (self._seg == sid).numpy().astype(np.bool), sinfo",
            "yield (self._seg == sid).numpy().astype(bool), sinfo",
        ),
        ("mask = (self._seg == sid).numpy().astype(np.bool)", "mask = (self._seg == sid).numpy().astype(bool)"),
    ],
    # The faster COCO evaluation is compiled; the official one gives the same numbers.
    "evaluation/fast_eval_api.py": [
        (
            'logger.info("COCOeval_opt.accumulate() finished in {:0.2f} seconds.".format(toc - tic))\n',
            'logger.info("COCOeval_opt.accumulate() finished in {:0.2f} seconds.".format(toc - tic))\n\n\n'
            'if not hasattr(_C, "COCOevalAccumulate"):  # mended by mask2former: nothing is compiled here\n'
            "    COCOeval_opt = COCOeval\n",
        ),
    ],
    # It comes last: while it is as released, some of the others may not be mended yet.
    "data/transforms/transform.py": [("interp=Image.LINEAR, fill=0", "interp=Image.BILINEAR, fill=0")],
}
RELEASE = ("data/transforms/transform.py", "Image.LINEAR")  # 0.6 and the main branch have the same version number
STAND_IN = '''"""Stands for compiled code that this Detectron2 lacks (mended by mask2former).

Its operators, deformable convolution and rotated boxes, are not there: only importing them works.
"""


def get_compiler_version():
    return "not compiled"


def get_cuda_version():
    return "not compiled"


def has_cuda():
    return False
'''


def patch_installed() -> str:
    """Mend the Detectron2 of this Python; return a line that says what was done.

    Raises:
        ValueError: it is not installed, or neither the 0.6 that is known nor the main branch.
    """
    spec = importlib.util.find_spec("detectron2")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"Detectron2 is not installed for {sys.executable}.")
    changed = patch(Path(spec.submodule_search_locations[0]))
    return f"Detectron2: {', '.join(changed)} patched." if changed else "Detectron2: nothing to patch."


def is_unpatched(package: Path) -> bool:
    """Tell whether the Detectron2 in the folder ``package`` is a 0.6 as released; versions do not tell."""
    file, text = RELEASE
    return text in (package / file).read_text(encoding="utf-8")


def patch(package: Path) -> list[str]:
    """Mend the Detectron2 in the folder ``package``; return the files that were changed.

    Raises:
        ValueError: a text is found neither as released nor as mended; then nothing is written.
    """
    contents: dict[str, str] = {}
    if is_unpatched(package):
        contents = {name: _mended(package / name, edits) for name, edits in EDITS.items()}
    if not any(package.glob("_C.*")):
        contents = {"_C.py": STAND_IN, **contents}
    contents |= _lazy(package)
    changed = [name for name, content in contents.items() if not _holds(package / name, content)]
    for name in changed:
        _write(package / name, contents[name])
    return changed


def _lazy(package: Path) -> dict[str, str]:
    """Return the files that import torchvision when it is used; none where any of them is not the release's.

    Nothing is wrong with another Detectron2 that imports it at once, so that is no error.
    """
    try:
        edited = {name: _mended(package / name, edits) for name, edits in lazy_torchvision.EDITS.items()}
    except (OSError, ValueError):
        return {}
    return {**lazy_torchvision.FILES, **edited}


def _mended(file: Path, edits: list[Edit]) -> str:
    content = file.read_text(encoding="utf-8")
    for old, new in edits:
        if new in content:
            continue
        if content.count(old) != 1:
            raise ValueError(
                f"{file}: found {content.count(old)} times, not once: {old.strip()!r}. This is not the 0.6 that "
                "is known here; `mask2former doctor --install-detectron2` installs that one; or use the main branch."
            )
        content = content.replace(old, new)
    return content


def _holds(file: Path, content: str) -> bool:
    return file.exists() and file.read_text(encoding="utf-8") == content


def _write(file: Path, content: str) -> None:
    """Replace the file by a new one, because the old one may be a hard link into an installer's cache."""
    descriptor, temporary = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(content)
    shutil.copymode(file if file.exists() else file.parent / "__init__.py", temporary)
    os.replace(temporary, file)
