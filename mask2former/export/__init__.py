"""Trained models as files that run without this project's Python code: ``torch.export`` and ONNX."""

from mask2former.export.bare_network import BARE, BareNetwork, PredictionForm
from mask2former.export.network import OUTPUTS, ExportedNetwork
from mask2former.export.programs import ExportError, export, load, outputs_of

__all__ = [
    "BARE",
    "OUTPUTS",
    "BareNetwork",
    "ExportError",
    "ExportedNetwork",
    "PredictionForm",
    "export",
    "load",
    "outputs_of",
]
