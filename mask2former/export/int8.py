"""Post-training quantisation of a network's program to 8 bits by ONNX Runtime, from a few images."""

from __future__ import annotations

import ast
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mask2former.export.programs import ExportError
from mask2former.files import write_by

FLOAT_PARTS = (
    "sampling_offsets",  # of deformable attention: an error moves where it looks
    "attention_weights",
    "predictor",  # the transformer decoder of Mask2Former: few products, whose masks decide by their signs
    "class_embed",
    "mask_embed",
    "mask_features",  # a factor of every mask logit
    "sem_seg_head.q",
)
"""Parts of module names whose products stay in float32."""

_PRODUCTS = ("Conv", "MatMul", "Gemm")
_BETWEEN = ("Add", "Relu", "Clip", "MaxPool")  # of a backbone, so that its convolutions hand on 8 bits


def quantise(source: Path, target: Path, images: Iterable[np.ndarray]) -> dict[str, int]:
    """Write a program with weights and activations of 8 bits, for the same input and outputs.

    Products with constant weights are quantised (a scale for each channel of the weights, of 8 bits with sign; one for
    each activation, from the smallest and greatest value on the images), except those of :data:`FLOAT_PARTS` and
    products of two activations. In backbones, sums and rectifiers between convolutions are too.

    Args:
        source: ONNX file of a :class:`~mask2former.export.BareNetwork`.
        target: file to write.
        images: padded, normalised images [1, 3, H, W] float32, a few dozen like those that the model will see.

    Returns:
        The number of quantised nodes of each kind, and of products left in float ("float").

    Raises:
        ExportError: onnxruntime or onnx is missing; no image; or nothing to quantise.
    """
    try:
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise ExportError(
            f"int8 needs a package that is missing ({error}): pip install 'mask2former[export]'"
        ) from error
    model = onnx.load(source)
    constants = {one.name for one in model.graph.initializer}
    chosen = [node for node in model.graph.node if _is_quantised(node, constants)]
    if not any(node.op_type in _PRODUCTS for node in chosen):
        raise ExportError(f"{source}: no product with constant weights outside of {', '.join(FLOAT_PARTS)}.")
    reader = _Reader(images)
    if not reader.has_any:
        raise ExportError("There are no images to calibrate on.")
    # OpenVINO 2026.4 fails over the zero points of products of three axes; with signs there are none.
    signed = [{"quant_type": QuantType.QInt8, "symmetric": True}]
    logging.getLogger().addFilter(_without_advice)
    try:
        write_by(
            target,
            lambda name: quantize_static(
                str(source),
                name,
                reader,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*_PRODUCTS, *_BETWEEN],
                nodes_to_quantize=[node.name for node in chosen],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={
                    "TensorQuantOverrides": {
                        node.input[0]: signed for node in chosen if node.op_type != "Conv" and node.op_type in _PRODUCTS
                    }
                },
            ),
        )
    finally:
        logging.getLogger().removeFilter(_without_advice)
    products = sum(node.op_type in _PRODUCTS for node in model.graph.node)
    counts = Counter(node.op_type for node in chosen)
    return {**counts, "float": products - sum(counts[kind] for kind in _PRODUCTS)}


def module_of(node: Any) -> str:
    """Return the name of the module that a node came from, below the model; "" where it is not known."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            scopes: Sequence[str] = ast.literal_eval(entry.value)
            return scopes[-2].removeprefix("model.") if len(scopes) > 1 else ""
    return ""


def _is_quantised(node: Any, constants: set[str]) -> bool:
    module = module_of(node)
    if any(part in module for part in FLOAT_PARTS):
        return False
    if node.op_type in _PRODUCTS:
        return any(name in constants for name in node.input)
    with_constant = any(name in constants for name in node.input)
    return module.startswith("backbone") and node.op_type in _BETWEEN and (node.op_type != "Add" or not with_constant)


class _Reader:
    """Images in the form that onnxruntime's calibration asks for."""

    def __init__(self, images: Iterable[np.ndarray]) -> None:
        self._images: Iterator[np.ndarray] = iter(images)
        first = next(self._images, None)
        self.has_any = first is not None
        if first is not None:
            self._images = chain([first], self._images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image}


def _without_advice(record: logging.LogRecord) -> bool:
    return "pre-processing" not in record.getMessage()
