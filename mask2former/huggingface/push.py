"""Upload a model to a hub of Hugging Face's kind."""

from __future__ import annotations

import tempfile
from pathlib import Path

from detectron2.config import CfgNode

from mask2former.huggingface.folder import write_folder


def push_to_hub(
    model: str | Path | CfgNode,
    repository: str,
    *,
    weights: str | None = None,
    license: str | None = None,
    private: bool = False,
    token: str | None = None,
) -> str:
    """Write a model's folder (see :func:`write_folder`) and upload it as one commit.

    Args:
        model, weights, license: see :func:`write_folder`.
        repository: ``org/name``, made if it is missing.
        private: make it for its owners alone.
        token: the right to write; the one that ``hf auth login`` or ``HF_TOKEN`` has set if None.

    Returns:
        The address of the commit.

    Raises:
        ImportError: the package huggingface_hub is not installed.
        ValueError: the name is not ``org/name``; or see :func:`write_folder`.
        OSError: the hub refuses, or is not reached.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise ImportError("push_to_hub() needs the package huggingface_hub: pip install 'mask2former[hub]'") from None
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise ValueError(f"The repository is {repository!r}; it has to be org/name, or your-name/name.")
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as place:
        folder = write_folder(model, place, weights=weights, name=repository, license=license)
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(repo_id=repository, folder_path=str(folder), commit_message="Mask2Former model")
        except (OSError, ValueError):
            raise  # what the hub answers
        except Exception as error:  # of the package's client of the network, which changes with its releases
            raise OSError(f"The hub was not reached ({type(error).__name__}: {error}).") from error
    return str(commit.commit_url)
