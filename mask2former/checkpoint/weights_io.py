"""Files of weights, read without running code in them: ``.pkl``, ``.safetensors``, and PyTorch's own formats."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from mask2former.checkpoint.safe_pickle import load_arrays
from mask2former.files import whole_file, write_by

# Keys under which training programs save the model: Detectron2's and Swin's, pycls', most others'.
_MODEL = ("model", "model_state", "state_dict")


def read(filename: str, opener: Callable[[str, str], IO[bytes]] = open) -> dict[str, Any]:
    """Read a file; its weights are under "model", tensors or arrays by name.

    Raises:
        ValueError: it holds anything but weights, which could run code, or is broken.
    """
    if filename.endswith(".safetensors"):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return {"model": load_file(filename)}
        except SafetensorError as error:
            raise ValueError(f"{filename} is not loaded: it is broken ({error}).") from None
    with opener(filename, "rb") as file:
        if filename.endswith(".pkl"):
            return _of_detectron2(load_arrays(file, filename), filename)
        try:
            data = torch.load(file, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"{filename} is not loaded: it is broken, or holds more than tensors and plain values, which could "
                f"run code ({reason})."
            ) from None
    if not isinstance(data, dict):
        raise ValueError(f"{filename} is not loaded: it holds no weights by name but a {type(data).__name__}.")
    inside = next((key for key in _MODEL if isinstance(data.get(key), dict)), None)
    return {"model": data} if inside is None else {**data, "model": data[inside]}


def _of_detectron2(data: Any, filename: str) -> dict[str, Any]:
    """Put Detectron2's and Caffe2's weights under "model"; Detectron2 matches the names of the latter."""
    if not isinstance(data, dict):
        raise ValueError(f"{filename} is not loaded: it holds no weights by name but a {type(data).__name__}.")
    if isinstance(data.get("model"), dict):
        return data
    if "blobs" in data:
        data = data["blobs"]
    arrays = {name: value for name, value in data.items() if not name.endswith("_momentum")}
    return {"model": arrays, "__author__": "Caffe2", "matching_heuristics": True}


def write(state: Mapping[str, Tensor], filename: str, *, nested: bool = True) -> None:
    """Write weights in the format of the file's suffix: ``.pkl``, ``.safetensors``, else PyTorch's.

    Args:
        state: tensors by name.
        filename: path of the file.
        nested: save them under "model" in PyTorch's formats, as Detectron2 does.

    Raises:
        ValueError: the format cannot hold a tensor's type.
        OSError: the disk is full, or the like; then no file of this name is written or changed.
    """
    state = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    suffix = Path(filename).suffix
    if suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        try:
            write_by(filename, lambda name: save_file(state, name, metadata={"format": "pt"}))
        except SafetensorError as error:
            raise OSError(f"{filename} was not written: {error}") from error
    elif suffix == ".pkl":
        if any(value.dtype == torch.bfloat16 for value in state.values()):
            raise ValueError(f"{filename}: .pkl files hold NumPy's types, and bfloat16 is none: choose .safetensors.")
        arrays = {name: value.numpy() for name, value in state.items()}
        with whole_file(filename) as file:
            pickle.dump({"model": arrays, "__author__": "mask2former"}, file, protocol=2)
    else:
        with whole_file(filename) as file:
            torch.save({"model": state} if nested else state, file)
