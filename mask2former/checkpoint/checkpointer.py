"""Detectron2's checkpointer, able to read published weights, and not to run code from files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer

from mask2former.checkpoint.hf import from_hf, is_hf
from mask2former.checkpoint.published import from_published, is_published
from mask2former.checkpoint.safe_pickle import load_arrays
from mask2former.checkpoint.swin import from_swin, is_swin
from mask2former.checkpoint.torchvision import from_torchvision, is_torchvision


class MaskFormerCheckpointer(DetectionCheckpointer):
    """Tells the format of weights from their names and converts them while loading. Saves under our names."""

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".pkl"):
            with self.path_manager.open(filename, "rb") as file:
                data = load_arrays(file, filename)
            if "model" in data and "__author__" in data:
                return data
            if "blobs" in data:
                data = data["blobs"]
            arrays = {name: value for name, value in data.items() if not name.endswith("_momentum")}
            return {"model": arrays, "__author__": "Caffe2", "matching_heuristics": True}
        if filename.endswith(".safetensors"):
            from safetensors.torch import load_file

            return {"model": load_file(filename)}
        with self.path_manager.open(filename, "rb") as file:
            data = torch.load(file, map_location="cpu", weights_only=True)
        return data if "model" in data else {"model": data}

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        state = checkpoint["model"]
        if is_hf(state):
            checkpoint["model"] = from_hf(state)
            if any(name.startswith("model.pixel_level_module.encoder.") for name in checkpoint["model"]):
                raise NotImplementedError(
                    "These are Hugging Face weights with a backbone other than Swin, whose layout this release does "
                    "not convert; loaded without it, the model would be worthless. Weights of the published system "
                    "load."
                )
        elif is_published(state):
            checkpoint["model"] = from_published(state)
        elif is_swin(state):
            checkpoint["model"] = from_swin(_tensors(state), self.model.state_dict())
        elif is_torchvision(state):
            checkpoint["model"] = from_torchvision(state)
        return super()._load_model(checkpoint)


def _tensors(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Arrays from ``.pkl`` files as tensors."""
    return {name: torch.as_tensor(value) for name, value in state.items()}
