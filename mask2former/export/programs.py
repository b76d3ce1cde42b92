"""Files of exported networks, written and read back as functions."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mask2former.export.axes import name_axes
from mask2former.export.bare_network import BareNetwork
from mask2former.export.network import MOST_PIXELS, OUTPUTS, ExportedNetwork
from mask2former.export.static_padding import static_padding
from mask2former.files import whole_file, write_by
from mask2former.ops.library import plain_pytorch

FORMATS = (".pt2", ".onnx")
METADATA = "mask2former.json"  # the file inside a .pt2; an .onnx has the property "mask2former"
OPSET = 20  # the first whose GridSample PyTorch's exporter writes
_AGAIN = "Copy it again, or export the model again: `mask2former export MODEL OUT`."
MOST_IMAGES = 1024  # of a batch
DTYPES = {"uint8": torch.uint8, "float32": torch.float32}

Program = Callable[[Tensor], tuple[Tensor, ...]]


class ExportError(Exception):
    """An export or a load that is not possible; the message says what to do."""


def export(
    network: ExportedNetwork | BareNetwork,
    path: str | Path,
    metadata: dict[str, Any],
    *,
    dtype: str = "uint8",
    portable: bool = False,
) -> None:
    """Write a program for images of any size: one at a time, or a batch for logits and bare networks.

    Args:
        network: the network to write; a bare one takes float32 alone.
        path: ``.pt2`` (``torch.export``) or ``.onnx``, which holds standard operators only.
        metadata: stored in the file as JSON.
        dtype: dtype of the image, a key of :data:`DTYPES`.
        portable: use only standard operators in a ``.pt2`` too, so that it loads without mask2former.

    Raises:
        ExportError: another suffix or dtype, no such folder, or a package that is missing.
    """
    path = Path(path).expanduser()
    if path.suffix not in FORMATS:
        raise ExportError(f"{path}: the suffix chooses the format, and has to be one of {', '.join(FORMATS)}.")
    if dtype not in DTYPES:
        raise ExportError(f"dtype is {dtype!r}; choose one of {', '.join(DTYPES)}.")
    if not path.parent.is_dir():
        raise ExportError(f"{path}: there is no folder {path.parent}.")
    if path.suffix == ".onnx":
        with _needing_onnx():
            import onnx  # noqa: F401
            import onnxscript  # noqa: F401
        # Fused attention has a memory layout of its own, which the exporter's rewriting does not preserve.
        with plain_pytorch(), sdpa_kernel(SDPBackend.MATH):
            _write_onnx(_trace(network, dtype), path, metadata, outputs_of(network))
        return
    with plain_pytorch() if portable else nullcontext():
        program = _trace(network, dtype)
    with whole_file(path) as file:
        torch.export.save(program, file, extra_files={METADATA: json.dumps(metadata)})


def outputs_of(network: ExportedNetwork | BareNetwork) -> tuple[str, ...]:
    """Name the outputs of a network's program."""
    return network.form.outputs if isinstance(network, BareNetwork) else OUTPUTS[network.results]


def _trace(network: ExportedNetwork | BareNetwork, dtype: str) -> torch.export.ExportedProgram:
    step, offset = max(network.model.size_divisibility, 1), network.model.size_offset
    shapes: dict[int, Any] = {}
    if isinstance(network, BareNetwork):
        batch, size = 2, (5 * step + offset, 7 * step + offset)
        # As multiples of symbols, for which see network.py.
        for axis, name in ((2, "rows"), (3, "columns")):
            shapes[axis] = step * torch.export.Dim(name, min=2, max=MOST_PIXELS // step) + offset
    else:
        batch = 2 if network.results == "logits" else 1
        size = (5 * step - 1, 7 * step - 2)  # any will do, because both become symbols
        shapes = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    if batch > 1:
        shapes[0] = torch.export.Dim("batch", min=1, max=MOST_IMAGES)
    image = torch.zeros((batch, 3, *size), dtype=DTYPES[dtype], device=network.model.device)
    with torch.no_grad(), static_padding(network.model, step), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they concern non-persistent buffers, which are constants here
        return torch.export.export(network, (image,), dynamic_shapes=(shapes,), strict=False)


def _write_onnx(
    program: torch.export.ExportedProgram, path: Path, metadata: dict[str, Any], outputs: Sequence[str]
) -> None:
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it logs a line for each node that it does not change
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, input_names=["image"], output_names=list(outputs), verbose=False
        )
    assert written is not None
    written.model.metadata_props["mask2former"] = json.dumps(metadata)
    model = written
    name_axes(model.model.graph)
    write_by(path, lambda name: model.save(name, external_data=False))


def load(path: str | Path, threads: int | None = None) -> tuple[Program, dict[str, Any]]:
    """Load a file that :func:`export` wrote; return a function of an image [1, 3, H, W], and the metadata.

    Args:
        path: path of the file.
        threads: number of onnxruntime's threads; None: its own choice.

    Raises:
        ExportError: no such file, not written by :func:`export`, incomplete, or a package that is missing.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ExportError(f"{path}: no such file.")
    if path.suffix not in FORMATS:
        raise ExportError(f"{path}: not an exported program; their names end in {' or '.join(FORMATS)}.")
    return _load_onnx(path, threads) if path.suffix == ".onnx" else _load_pt2(path)


def _load_pt2(path: Path) -> tuple[Program, dict[str, Any]]:
    if not is_zipfile(path):
        raise ExportError(f"{path}: not a .pt2 archive, or incomplete. {_AGAIN}")
    with ZipFile(path) as archive:
        if not any(PurePosixPath(name).name == METADATA for name in archive.namelist()):
            raise ExportError(f"{path}: holds no {METADATA}; it was not written by mask2former.export. {_AGAIN}")
    files = {METADATA: ""}
    program = torch.export.load(path, extra_files=files)
    return program.module(), json.loads(files[METADATA])


def _load_onnx(path: Path, threads: int | None) -> tuple[Program, dict[str, Any]]:
    session = open_onnx(path, threads)
    properties = session.get_modelmeta().custom_metadata_map
    if "mask2former" not in properties:
        raise ExportError(f"{path}: has no property 'mask2former'; it was not written by mask2former.export.")

    def run(image: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(x) for x in session.run(None, {"image": image.cpu().numpy()}))

    return run, json.loads(properties["mask2former"])


def open_onnx(path: Path, threads: int | None, providers: Sequence[str] | None = None) -> Any:
    """Open an ONNX file with onnxruntime; return the ``InferenceSession``.

    Args:
        path: path of the file.
        threads: number of onnxruntime's threads; None: its own choice.
        providers: names of onnxruntime's execution providers; None: all that are there.

    Raises:
        ExportError: onnxruntime is missing, or cannot read the file.
    """
    with _needing_onnx():
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=list(providers or onnxruntime.get_available_providers())
        )
    except onnxruntime_errors() as error:
        raise ExportError(f"{path}: onnxruntime cannot read it ({error}). {_AGAIN}") from error


def onnxruntime_errors() -> tuple[type[Exception], ...]:
    """Return onnxruntime's own errors, which have no class in common."""
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    return tuple(one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception))


@contextmanager
def _needing_onnx() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ExportError(
            f"ONNX needs the package {error.name}: pip install 'mask2former[export]' (onnx, onnxruntime, onnxscript)."
        ) from error
