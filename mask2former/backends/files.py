"""Programs of networks as files: written once for each state of a model, kept, and bounded in number."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import torch
from iopath.common.file_io import file_lock, get_cache_dir
from torch import nn

from mask2former.backends.engines import BackendError
from mask2former.export import BARE, BareNetwork, ExportError, export

VERSION = 1  # to be raised where programs of the same weights change, so that kept ones are written again
MOST_FILES = 8  # kept programs; those that were used longest ago go first
FOLDER = "mask2former_programs"
logger = logging.getLogger(__name__)


def weights_digest(model: nn.Module) -> str:
    """Return the SHA-256 of a model's weights, their names and shapes included."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def network_metadata(network: BareNetwork) -> dict[str, Any]:
    """Return what a program of a bare network needs to be used again."""
    return {
        "results": BARE,
        "prediction": network.form.to_json(),
        "weights": weights_digest(network.model),
        "version": VERSION,
    }


def kept_program(network: BareNetwork) -> Path:
    """Return the ONNX file of a network, which is written if there is none yet.

    It lies beside downloaded weights (``$FVCORE_CACHE``, else ``~/.torch/iopath_cache``); its name is made of the
    weights, the network's text, and the versions of torch and of such programs.

    Raises:
        BackendError: it cannot be written.
    """
    metadata = network_metadata(network)
    key = hashlib.sha256(f"{metadata} {network.model} {torch.__version__}".encode()).hexdigest()[:32]
    folder = Path(get_cache_dir(), FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{key}.onnx"
    with file_lock(str(file)):
        if not file.is_file():
            logger.warning("Writing the network as an ONNX file, once for these weights: up to a minute (%s).", file)
            try:
                export(network, file, metadata, dtype="float32")
            except ExportError as error:
                raise BackendError(str(error)) from error
        file.touch()
    for old in sorted(folder.glob("*.onnx"), key=lambda one: one.stat().st_mtime)[:-MOST_FILES]:
        old.unlink(missing_ok=True)
        Path(f"{old}.lock").unlink(missing_ok=True)
    return file


def read_metadata(file: Path) -> dict[str, Any]:
    """Return the metadata of an ONNX file that this project wrote.

    Raises:
        BackendError: no such file, or another's.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise BackendError(f"Reading {file} needs onnx: pip install 'mask2former[export]'") from error
    if not file.is_file():
        raise BackendError(f"{file}: no such file.")
    try:
        model = onnx.load(file, load_external_data=False)
    except DecodeError as error:
        raise BackendError(f"{file}: not an ONNX file, or damaged ({error}). Export it again.") from error
    properties = {one.key: one.value for one in model.metadata_props}
    if "mask2former" not in properties:
        raise BackendError(f"{file}: has no property 'mask2former'; it was not written by mask2former export.")
    return json.loads(properties["mask2former"])
