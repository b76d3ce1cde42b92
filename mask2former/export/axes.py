"""Speaking names for the free axes of ONNX graphs, in place of the symbols of tracing."""

from __future__ import annotations

import re
from typing import Any

INPUT = ("batch", "channels", "height", "width")
OUTPUTS = {  # of those axes that are free
    "class_logits": ("batch", "queries", "classes"),
    "mask_logits": ("batch", "queries", "mask_height", "mask_width"),
    "mask_embed": ("batch", "queries", "mask_channels"),
    "mask_features": ("batch", "mask_channels", "mask_height", "mask_width"),
    "classes": ("height", "width"),
    "segments": ("height", "width"),
    "masks": ("instances", "height", "width"),
}


def name_axes(graph: Any) -> None:
    """Name the free axes of a graph's input and outputs, in place.

    Args:
        graph: an ``onnx_ir.Graph``. Values inside keep their symbols, except where these are an input's.
    """
    import onnx_ir

    (image,) = graph.inputs
    renamed = _rename(image, INPUT)
    for value in graph.outputs:
        _rename(value, OUTPUTS.get(value.name, ()))
    for node in graph:
        for value in node.outputs:
            if value.shape is None or value.is_graph_output():
                continue
            for axis, size in enumerate(value.shape):
                if isinstance(size, onnx_ir.SymbolicDim) and size.value in renamed:
                    value.shape[axis] = onnx_ir.SymbolicDim(renamed[size.value])


def _rename(value: Any, names: tuple[str, ...]) -> dict[str, str]:
    """Name the free axes of a value; return its new names by its old ones."""
    import onnx_ir

    renamed = {}
    for axis, (size, name) in enumerate(zip(value.shape, names, strict=False)):
        if isinstance(size, onnx_ir.SymbolicDim):
            if size.value and re.fullmatch(r"\w+", size.value):
                renamed[size.value] = name
            value.shape[axis] = onnx_ir.SymbolicDim(name)
    return renamed
