"""Trained models as files that run without this project's Python code: ``torch.export`` and ONNX."""

from mask2former.export.network import OUTPUTS, ExportedNetwork
from mask2former.export.programs import ExportError, export, load

__all__ = ["OUTPUTS", "ExportError", "ExportedNetwork", "export", "load"]
