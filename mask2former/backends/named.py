"""Programs that users name: read before an engine opens them, and compared with the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mask2former.backends.engines import BackendError
from mask2former.backends.identity import settings_digest
from mask2former.checkpoint.digest import weights_digest
from mask2former.export import BARE, BareNetwork, PredictionForm


def named_form(file: Path, network: BareNetwork) -> PredictionForm:
    """Return how the outputs of a program become a prediction, after checking that it is one of this network.

    Raises:
        BackendError: no such file, damaged, another's, with data in other files, or of another model; it says what
            differs.
    """
    program = _read(file)
    metadata = _metadata(program, file)
    if metadata.get("results") != BARE:
        raise BackendError(
            f"{file}: a program of {metadata.get('results', 'unknown')} results. Backends take one of "
            f"`mask2former export MODEL {file.name} --results {BARE}`."
        )
    try:
        weights, form = metadata["weights"], PredictionForm.from_json(metadata["prediction"])
    except (KeyError, TypeError) as error:
        raise BackendError(f"{file}: its property 'mask2former' is incomplete ({error!r}). Export it again.") from error
    settings = settings_digest(network.model)
    differs = {
        "other weights": weights != weights_digest(network.model),
        # Programs of before have no settings.
        "other settings (of numbers of heads, order of layers and the like; the weights are the same), or of another "
        "version,": metadata.get("settings", settings) != settings,
        f"other outputs ({', '.join(map(str, form.outputs))})": form != network.form,
    }
    for what, is_so in differs.items():
        if is_so:
            raise BackendError(
                f"{file}: a program of {what} than this model's. Export it again, or name the model it was made of."
            )
    constants = {one.name for one in program.graph.initializer}
    for kind, values, wanted in (
        ("inputs", program.graph.input, ("image",)),
        ("outputs", program.graph.output, form.outputs),
    ):
        names = tuple(one.name for one in values if one.name not in constants)
        if names != wanted:
            raise BackendError(
                f"{file}: its {kind} are {', '.join(names) or 'none'}, but have to be {', '.join(wanted)}. "
                "Export it again."
            )
    return form


def _read(file: Path) -> Any:
    """Return an ONNX file's model, all of whose data are in it."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise BackendError(f"Reading {file} needs onnx: pip install 'mask2former[export]'") from error
    if not file.is_file():
        raise BackendError(f"{file}: no such file.")
    try:
        program = onnx.load(file, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise BackendError(f"{file}: not an ONNX file, or damaged ({error}). Export it again.") from error
    if _reads_other_files(program):
        raise BackendError(
            f"{file}: takes weights from other files, which an engine would read from any place. mask2former export "
            "writes one file: export it again, and run no programs of people whom you do not trust."
        )
    return program


def _metadata(program: Any, file: Path) -> dict[str, Any]:
    properties = {one.key: one.value for one in program.metadata_props}
    if "mask2former" not in properties:
        raise BackendError(f"{file}: has no property 'mask2former'; it was not written by mask2former export.")
    try:
        metadata = json.loads(properties["mask2former"])
    except json.JSONDecodeError as error:
        raise BackendError(f"{file}: its property 'mask2former' is no JSON ({error}). Export it again.") from error
    if not isinstance(metadata, dict):
        raise BackendError(f"{file}: its property 'mask2former' is no JSON object. Export it again.")
    return metadata


def _reads_other_files(message: Any) -> bool:
    """Tell whether a tensor anywhere in an ONNX message, inner graphs included, lies in another file."""
    from google.protobuf.message import Message
    from onnx import TensorProto

    if isinstance(message, TensorProto):
        return message.data_location == TensorProto.EXTERNAL or len(message.external_data) > 0
    for field, value in message.ListFields():
        if field.message_type is not None:
            inner = [value] if isinstance(value, Message) else value
            if any(_reads_other_files(one) for one in inner):
                return True
    return False
