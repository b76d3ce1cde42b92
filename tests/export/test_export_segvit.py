"""SegViT and Shrunk as programs for all sizes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from segvit_models import configuration

from mask2former.export import ExportedNetwork, export, load
from mask2former.export.check import compare

NEEDS_ONNX = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="needs the extra `export`",
)


@pytest.mark.parametrize("shrunk", [False, True])
@pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=[NEEDS_ONNX, pytest.mark.slow])])
def test_it_is_exported_for_all_sizes(suffix: str, shrunk: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ExportedNetwork(build_model(configuration(shrunk)).eval(), "logits")
    file = tmp_path / f"program{suffix}"
    export(network, file, {"results": "logits"})
    for row in compare(network, load(file)[0], sizes=((64, 96), (97, 70), (130, 161))):
        assert row.difference is not None and row.difference < 1e-4
