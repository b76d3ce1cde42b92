"""Checkpoint files of TensorFlow, read by TensorFlow, which only they need."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def read_tensorflow(filename: str) -> dict[str, Tensor]:
    """Read the arrays of numbers of a checkpoint, by the paths of their objects; slots of the optimiser are left out.

    Args:
        filename: of the index, ``ckpt-100000.index``; its data lie beside it.

    Raises:
        ImportError: TensorFlow is not installed.
        ValueError: the files are not a whole checkpoint.
    """
    try:
        import tensorflow
    except ImportError as error:
        raise ImportError(
            f"{filename} is a checkpoint of TensorFlow, and only TensorFlow reads it. pip install tensorflow-cpu, or "
            "convert the file where it is installed: tools/convert.py makes one that needs it no more."
        ) from error
    try:
        reader: Any = tensorflow.train.load_checkpoint(filename.removesuffix(".index"))
        names = [name for name in reader.get_variable_to_shape_map() if "/.OPTIMIZER_SLOT/" not in name]
        arrays = {name: reader.get_tensor(name) for name in names}
    except (tensorflow.errors.OpError, ValueError) as error:
        raise ValueError(
            f"{filename} is not loaded: it is not a whole checkpoint of TensorFlow ({str(error).splitlines()[0]}). "
            "Both ckpt-N.index and ckpt-N.data-00000-of-00001 have to be there; get them again from their source."
        ) from error
    return {name: torch.from_numpy(value.copy()) for name, value in arrays.items() if value.dtype.kind in "fiu"}
