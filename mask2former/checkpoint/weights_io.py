"""Files of weights, read without running code in them: ``.pkl``, ``.safetensors``, and PyTorch's own formats."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from mask2former.checkpoint.safe_pickle import load_arrays
from mask2former.checkpoint.torch_files import check_torch_file
from mask2former.files import whole_file, write_by

# Keys under which training programs save the model: Detectron2's and Swin's, pycls', most others'.
_MODEL = ("model", "model_state", "state_dict")


def read(filename: str, opener: Callable[[str, str], IO[bytes]] = open, *, in_place: bool = False) -> dict[str, Any]:
    """Read a file; its weights are under "model", tensors or arrays by name.

    Args:
        filename: path, or what ``opener`` takes.
        opener: opens it, given a mode.
        in_place: where the file is a local archive of ``torch.save``, its tensors are views of the file: what nobody
            looks at is never read, and what is looked at takes memory that the system can have back. For tensors that
            are soon copied or forgotten, because the file has to stay as it is meanwhile.

    Raises:
        ValueError: it holds anything but weights, which could run code, or is broken.
    """
    with _named(filename):
        if filename.endswith(".safetensors"):
            from safetensors.torch import load_file

            return {"model": load_file(filename)}
        with opener(filename, "rb") as file:
            if filename.endswith(".pkl"):
                return _of_detectron2(load_arrays(file, filename), filename)
            is_archive = check_torch_file(file)
            if in_place and is_archive and os.path.isfile(filename):
                data = torch.load(filename, map_location="cpu", weights_only=True, mmap=True)
            else:
                data = torch.load(file, map_location="cpu", weights_only=True)
    model = (
        next((data[key] for key in _MODEL if isinstance(data.get(key), dict)), data) if isinstance(data, dict) else data
    )
    _require_names(model, filename)
    for name, value in model.items():
        if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta:
            _require_content(value, f"{filename} is not loaded: {name}")
    return {"model": data} if model is data else {**data, "model": model}


@contextlib.contextmanager
def _named(filename: str) -> Iterator[None]:
    """Name the file in the many errors that readers raise for broken ones."""
    try:
        yield
    except FileNotFoundError:
        raise  # names it already
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(f"{filename} is not loaded"):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{filename} is not loaded: it is broken, or holds more than tensors and plain values, which could "
            f"run code ({reason}). Get the file again from its source."
        ) from error


def _require_names(data: Any, filename: str) -> None:
    if not isinstance(data, dict):
        raise ValueError(
            f"{filename} is not loaded: it holds a {type(data).__name__}, not a dictionary of weights by name."
        )
    for name in data:
        if not isinstance(name, str):
            raise ValueError(
                f"{filename} is not loaded: the name of a weight is a {type(name).__name__}, not a string."
            )


def _require_content(tensor: Tensor, where: str) -> None:
    """Refuse a tensor that repeats few values many times, which turns into more memory than the file has bytes."""
    size, stored = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if size > stored:
        raise ValueError(
            f"{where} has the shape {tuple(tensor.shape)}, {size:,} bytes, but only {stored:,} are stored."
        )


def _of_detectron2(data: Any, filename: str) -> dict[str, Any]:
    """Put Detectron2's and Caffe2's weights under "model"; Detectron2 matches the names of the latter."""
    _require_names(data, filename)
    if isinstance(data.get("model"), dict):
        _require_names(data["model"], filename)
        return data
    if "blobs" in data:
        data = data["blobs"]
        _require_names(data, filename)
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
            raise ValueError(f"{filename}: .pkl files hold NumPy's types, which lack bfloat16: choose .safetensors.")
        arrays = {name: value.numpy() for name, value in state.items()}
        with whole_file(filename) as file:
            pickle.dump({"model": arrays, "__author__": "mask2former"}, file, protocol=2)
    else:
        with whole_file(filename) as file:
            torch.save({"model": state} if nested else state, file)
