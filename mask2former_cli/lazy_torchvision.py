"""Edits of an installed Detectron2 0.6 that import torchvision when it is first used, not at every start.

Detectron2's layers take four names from ``torchvision.ops``: deformable convolution, RoI pooling and alignment, and
non-maximum suppression; and its engine takes the version, for the log. A mask architecture uses none of the four, and
newer torchvisions import PyTorch's compiler and SymPy, which is half of the time that a small model takes from a fresh
process to its first result, and two fifths of what an evaluation takes to start. The names stay importable from where
they are, and give what they gave; the logged version is the package's, without the kind of build ("+cu132").
"""

from __future__ import annotations

OPERATORS = '''"""torchvision's operators, imported when first used, because it takes seconds (added by mask2former)."""

import types


class _Operators(types.ModuleType):  # a module, so that TorchScript compiles functions that call what it holds
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        import torchvision.ops

        return getattr(torchvision.ops, name)


ops = _Operators("torchvision.ops")


def on_demand(name):
    """Return the operator that modules of this package offer by this name, as their ``__getattr__``."""
    if name not in ("nms", "roi_align", "deform_conv2d"):
        raise AttributeError(f"module of detectron2.layers has no attribute {name!r}")
    return getattr(ops, name)
'''
_HERE = "from ._torchvision import on_demand as __getattr__, ops as torchvision_ops\n"

# The file that is added comes first, because the others import it. Between two of the rest everything works too.
FILES: dict[str, str] = {"layers/_torchvision.py": OPERATORS}
EDITS: dict[str, list[tuple[str, str]]] = {
    "layers/deform_conv.py": [
        (
            "import _pair\nfrom torchvision.ops import deform_conv2d\n\nfrom detectron2 import _C\n",
            "import _pair\n\nfrom detectron2 import _C\n",
        ),
        ("from .wrappers import _NewEmptyTensorOp\n", f"{_HERE}from .wrappers import _NewEmptyTensorOp\n"),
        ("            return deform_conv2d(\n", "            return torchvision_ops.deform_conv2d(\n"),
    ],
    "layers/roi_align.py": [
        ("from torch import nn\nfrom torchvision.ops import roi_align\n", f"from torch import nn\n\n{_HERE}"),
        ("        return roi_align(\n", "        return torchvision_ops.roi_align(\n"),
    ],
    "layers/nms.py": [
        ("from torchvision.ops import boxes as box_ops\nfrom torchvision.ops import nms  # BC-compat\n", f"\n{_HERE}"),
        ("        return box_ops.batched_nms(", "        return torchvision_ops.boxes.batched_nms("),
        ("        keep = nms(boxes[mask]", "        keep = torchvision_ops.nms(boxes[mask]"),
    ],
    "modeling/poolers.py": [
        (
            "from torchvision.ops import RoIPool\n\nfrom detectron2.layers import ROIAlign,",
            "\nfrom detectron2.layers._torchvision import ops as torchvision_ops\n"
            "from detectron2.layers import ROIAlign,",
        ),
        ("                RoIPool(output_size", "                torchvision_ops.RoIPool(output_size"),
    ],
    "utils/collect_env.py": [  # which every training calls: the version and the place, without importing it
        ("import torch\nimport torchvision\n", "import torch\nfrom importlib.metadata import version\n"),
        (
            'str(torchvision.__version__) + " @" + os.path.dirname(torchvision.__file__),',
            'version("torchvision") + " @" + os.path.dirname(importlib.util.find_spec("torchvision").origin),',
        ),
    ],
    "layers/__init__.py": [
        (
            "from .nms import batched_nms, batched_nms_rotated, nms, nms_rotated\n"
            "from .roi_align import ROIAlign, roi_align\n",
            "from .nms import batched_nms, batched_nms_rotated, nms_rotated\nfrom .roi_align import ROIAlign\n",
        ),
        (
            '__all__ = [k for k in globals().keys() if not k.startswith("_")]\n',
            '__all__ = [k for k in globals().keys() if not k.startswith("_")]\n\n'
            "del nms, roi_align  # files; torchvision's functions are meant (mended by mask2former)\n"
            "from ._torchvision import on_demand as __getattr__  # noqa: E402\n",
        ),
    ],
}
