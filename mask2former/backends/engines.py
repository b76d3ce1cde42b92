"""Inference engines behind one interface: arrays of padded images in, arrays of the network's outputs out."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from mask2former.export.programs import onnxruntime_errors, open_onnx

Engine = Callable[[np.ndarray], list[np.ndarray]]
"""Images [B, 3, H, W] float32, contiguous -> the program's outputs, in its order; RuntimeError where it fails."""

Opener = Callable[[Path, int], Engine]
"""(file, number of threads) -> an engine that runs it. Raises RuntimeError or ExportError for what it cannot read."""

MOST_SIZES = 8  # compiled programs of OpenVINO that are kept, each of one padded size


class BackendError(ValueError):
    """A backend that cannot be used here, or not with this model; the message says what to do."""


def onnxruntime_opener() -> Opener:
    """Return what opens ONNX files with ONNX Runtime on the CPU, for any size and batch.

    Raises:
        BackendError: the package is missing.
    """
    _require("onnxruntime", extra="export")

    def opened(path: Path, threads: int) -> Engine:
        session = open_onnx(path, threads, ["CPUExecutionProvider"])

        def run(images: np.ndarray) -> list[np.ndarray]:
            try:
                return session.run(None, {"image": images})
            except onnxruntime_errors() as error:  # which are no RuntimeErrors
                raise RuntimeError(str(error)) from error

        return run

    return opened


def openvino_opener() -> Opener:
    """Return what opens ONNX files with OpenVINO on the CPU.

    Raises:
        BackendError: the package is missing.
    """
    openvino = _require("openvino", extra="openvino")
    return lambda path, threads: _OpenVino(openvino.Core(), path, threads)


class _OpenVino:
    """A program that is compiled for each size, of which :data:`MOST_SIZES` are kept: of free sizes it is slower."""

    def __init__(self, core: Any, path: Path, threads: int) -> None:
        self._core, self._model = core, core.read_model(str(path))
        self._settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # on CPUs with bfloat16 it would take that by itself
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._lock = Lock()  # a request holds one batch at a time

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        with self._lock:
            if images.shape not in self._requests:
                self._model.reshape(list(images.shape))
                compiled = self._core.compile_model(self._model, "CPU", self._settings)
                self._requests[images.shape] = compiled.create_infer_request()
                while len(self._requests) > MOST_SIZES:
                    self._requests.popitem(last=False)
            self._requests.move_to_end(images.shape)
            found = self._requests[images.shape].infer({0: images}, share_inputs=True)
            return [np.array(found[place]) for place in range(len(found))]  # the request writes into its own again


OPENERS: dict[str, Callable[[], Opener]] = {"onnxruntime": onnxruntime_opener, "openvino": openvino_opener}
BACKENDS = ("torch", *OPENERS)


def require_backend(name: str) -> None:
    """Refuse a name that is no backend's with a :class:`BackendError`."""
    if name not in BACKENDS:
        raise BackendError(f"backend is {name!r}; choose one of {', '.join(BACKENDS)}.")


def _require(package: str, extra: str) -> Any:
    """Import the package of the backend of its name."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise BackendError(
            f"backend={package!r} needs a package that is missing ({error}): pip install 'mask2former[{extra}]'"
        ) from error
