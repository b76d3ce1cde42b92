"""Let another engine run a model's network."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from mask2former.backends.engines import OPENERS, BackendError, Engine, Opener, require_backend
from mask2former.backends.files import kept_program
from mask2former.backends.named import named_form
from mask2former.export import BARE, BareNetwork, ExportError, PredictionForm
from mask2former.modeling.meta_arch import SegmentationModel, unwrapped
from mask2former.structures import MaskPrediction

logger = logging.getLogger(__name__)


class EngineNetwork:
    """A network that another engine runs, called as :attr:`SegmentationModel.engine` is.

    Copies of a model share it; it cannot be pickled.

    Args:
        engine: runs the program.
        form: how its outputs become a prediction.
        name: the backend and a digest of the program; engines of one name give the same results.
    """

    def __init__(self, engine: Engine, form: PredictionForm, name: str) -> None:
        self._engine, self._form, self.name = engine, form, name

    def __deepcopy__(self, memo: dict[int, Any]) -> EngineNetwork:
        return self

    def __reduce__(self) -> Any:
        raise BackendError(
            f"A network that {self.name.partition(' ')[0]} runs cannot be pickled. Set model.engine = None before, and "
            "call mask2former.backends.use_backend(model, ...) where it is loaded."
        )

    def __call__(self, images: Tensor) -> MaskPrediction:
        """Predict from padded images [B, 3, H, W], float32 on the CPU."""
        if images.device.type != "cpu" or images.dtype != torch.float32:
            raise BackendError(
                f"Other engines than PyTorch run here on the CPU in float32; the model is on {images.device} in "
                f"{images.dtype}. Leave out backend, or take device='cpu' and model.float()."
            )
        try:
            found: Sequence[np.ndarray] = self._engine(np.ascontiguousarray(images.numpy()))
        except RuntimeError as error:
            raise BackendError(
                f"{self.name} fails on images of {tuple(images.shape)} ({error}). Leave out backend, or, with a "
                "program of your own, export it again."
            ) from error
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
    if program is not None:
        file = Path(program).expanduser()
        form = named_form(file, network)
        again = f"Export it again: mask2former export MODEL {file.name} --results {BARE}."
        engine = _opened(open_engine, file, backend, again)
        with open(file, "rb") as content:
            digest = _sha256(content)
    else:
        file, form = kept_program(network), network.form
        try:
            engine = _opened(open_engine, file, backend, "It is written anew.")
        except BackendError as error:
            logger.warning("%s", error)
            file = kept_program(network, anew=True)
            engine = _opened(open_engine, file, backend, "It was just written: leave out backend.")
        digest = file.stem  # of all that the file is made of
    network.model.engine = EngineNetwork(engine, form, f"{backend} {digest}")


def _opened(open_engine: Opener, file: Path, backend: str, advice: str) -> Engine:
    try:
        return open_engine(file, torch.get_num_threads())
    except (ExportError, RuntimeError) as error:
        reason = error.__cause__ or error if isinstance(error, ExportError) else error  # without an export's advice
        raise BackendError(f"{file}: {backend} cannot read it ({' '.join(str(reason).split())}). {advice}") from error


def _sha256(content: BinaryIO) -> str:
    digest = hashlib.sha256()
    while part := content.read(1 << 20):
        digest.update(part)
    return digest.hexdigest()[:32]


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
