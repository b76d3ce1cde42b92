"""Programs of networks as files: written once for each state of a model, kept, and bounded in number."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from iopath.common.file_io import file_lock, get_cache_dir

from mask2former.backends.engines import BackendError
from mask2former.backends.identity import settings_digest, sources_digest
from mask2former.checkpoint.digest import weights_digest
from mask2former.export import BARE, BareNetwork, ExportError, export

MOST_FILES = 8  # kept programs; those that were used longest ago go first
FOLDER = "mask2former_programs"  # and the user's number, where systems have those: programs of others are not run
logger = logging.getLogger(__name__)


def network_metadata(network: BareNetwork) -> dict[str, Any]:
    """Return what a program of a bare network needs to be used again."""
    return {
        "results": BARE,
        "prediction": network.form.to_json(),
        "weights": weights_digest(network.model),
        "settings": settings_digest(network.model),
        "sources": sources_digest(),
    }


def kept_program(network: BareNetwork, *, anew: bool = False) -> Path:
    """Return the ONNX file of a network, which is written if there is none yet.

    It lies beside downloaded weights (``$FVCORE_CACHE``, else ``~/.torch/iopath_cache``); its name is made of the
    weights, the network's settings, this project's code, and the version of torch.

    Args:
        network: the network.
        anew: write it in any case, because the one that is there cannot be read.

    Raises:
        BackendError: it cannot be written, or belongs to another user.
    """
    metadata = network_metadata(network)
    key = hashlib.sha256(f"{json.dumps(metadata)} {torch.__version__}".encode()).hexdigest()[:32]
    folder = Path(get_cache_dir(), f"{FOLDER}_{os.getuid()}" if hasattr(os, "getuid") else FOLDER)
    file = folder / f"{key}.onnx"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(str(file)):
            if anew:
                file.unlink(missing_ok=True)
            if file.is_file():
                _require_own(file)
            else:
                logger.warning("Writing the network as an ONNX file, once for this model: up to a minute (%s).", file)
                export(network, file, metadata, dtype="float32")
            file.touch()
    except OSError as error:
        raise BackendError(
            f"{file}: the network's program cannot be kept there ({error}). Make room or name another folder with the "
            "environment variable FVCORE_CACHE."
        ) from error
    except ExportError as error:
        raise BackendError(str(error)) from error
    _prune(folder)
    return file


def _require_own(file: Path) -> None:
    if hasattr(os, "getuid") and (owner := file.stat().st_uid) != os.getuid():
        raise BackendError(
            f"{file}: belongs to another user (number {owner}), who could have changed it. Delete it, or name a folder "
            "of your own with the environment variable FVCORE_CACHE."
        )


def _prune(folder: Path) -> None:
    """Remove programs that were used longest ago. Other processes may do so too, and write files (with a first dot)."""
    ages = []
    for file in folder.glob("[!.]*.onnx"):
        with contextlib.suppress(FileNotFoundError):
            ages.append((file.stat().st_mtime, file))
    for _, file in sorted(ages)[:-MOST_FILES]:
        file.unlink(missing_ok=True)  # its lock stays: another process may hold it
