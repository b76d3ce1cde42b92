"""Let another engine run a model's network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mask2former.backends.engines import OPENERS, BackendError, Engine, require_backend
from mask2former.backends.files import kept_program, read_metadata, weights_digest
from mask2former.export import BARE, BareNetwork, ExportError, PredictionForm
from mask2former.modeling.meta_arch import SegmentationModel, unwrapped
from mask2former.structures import MaskPrediction


class EngineNetwork:
    """A network that another engine runs, called as :attr:`SegmentationModel.engine` is.

    Args:
        engine: runs the program.
        form: how its outputs become a prediction.
    """

    def __init__(self, engine: Engine, form: PredictionForm) -> None:
        self._engine, self._form = engine, form

    def __call__(self, images: Tensor) -> MaskPrediction:
        """Predict from padded images [B, 3, H, W], float32 on the CPU."""
        if images.device.type != "cpu" or images.dtype != torch.float32:
            raise BackendError(
                f"Other engines than PyTorch run here on the CPU in float32; the model is on {images.device} in "
                f"{images.dtype}. Leave out backend, or take device='cpu' and model.float()."
            )
        found: Sequence[np.ndarray] = self._engine(np.ascontiguousarray(images.numpy()))
        return self._form.prediction([torch.from_numpy(one) for one in found])


def use_backend(model: nn.Module, backend: str, program: str | Path | None = None) -> None:
    """Let ``backend`` run a model's network at inference; the results are the same but for rounding.

    Args:
        model: with its weights, on the CPU, in float32.
        backend: one of :data:`~mask2former.backends.BACKENDS`; "torch" leaves the model as it is.
        program: an ONNX file of this model that ``mask2former export --results network`` wrote, such as one in int8.
            None: it is written when it is first needed, which takes up to a minute, and kept.

    Raises:
        BackendError: no such backend; its packages are missing; a model that it cannot run (on another device, with a
            mask encoder, of clips, or that classifies pixels); or a program that is not this model's.
    """
    require_backend(backend)
    if backend == "torch":
        if program is not None:
            raise BackendError(f"{program} is for another engine than PyTorch: name it, backend='onnxruntime'.")
        return
    network = _require_fit(unwrapped(model), backend)
    open_engine = OPENERS[backend]()
    file = Path(program).expanduser() if program is not None else kept_program(network)
    metadata = read_metadata(file)
    if metadata.get("results") != BARE:
        raise BackendError(
            f"{file}: a program of {metadata.get('results', 'unknown')} results. Backends take one of "
            f"`mask2former export MODEL {file.name} --results {BARE}`."
        )
    if metadata["weights"] != weights_digest(model):
        raise BackendError(
            f"{file}: a program of other weights than this model's. Export it again, or name the model it was made of."
        )
    engine = open_engine(file, torch.get_num_threads())
    network.model.engine = EngineNetwork(engine, PredictionForm.from_json(metadata["prediction"]))


def _require_fit(model: Any, backend: str) -> BareNetwork:
    if not isinstance(model, SegmentationModel):
        raise BackendError(f"backend={backend!r} runs models that predict masks; this one is {type(model).__name__}.")
    if model.takes_masks:
        raise BackendError(f"backend={backend!r} takes images alone, but this model has a mask encoder: leave it out.")
    if model.device.type != "cpu":
        raise BackendError(
            f"backend={backend!r} runs on the CPU, but the model is on {model.device}: add device='cpu', or leave "
            "backend out."
        )
    try:
        return BareNetwork(model)
    except (ExportError, ValueError) as error:
        raise BackendError(f"backend={backend!r}: {error}") from error
