"""Whatever the family: programs with PyTorch's results, and operations of which none is left uncounted."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from small_families import FAMILIES, Family, image, network

from mask2former.analysis import flop_counts
from mask2former.cli import analyze
from mask2former.data import register_all
from mask2former.export import ExportedNetwork, export, load

ROOT = Path(__file__).parents[2]

# Fewer layers than the table's, since tracing takes as long as there are.
SHALLOW = ("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64)
ALL = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
SIZES = ((64, 96), (97, 70), (130, 161))
NEEDS_ONNX = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="needs onnx, onnxruntime and onnxscript: pip install 'mask2former[export]'",
)


@pytest.fixture(autouse=True)
def _registered(tmp_path: Path) -> None:
    register_all(str(tmp_path))


@pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=[NEEDS_ONNX, pytest.mark.slow])])
@pytest.mark.parametrize(
    "family",  # kMaX's takes a minute, and test_located_slots.py exports its network as well
    [pytest.param(family, id=name, marks=[pytest.mark.slow] * (name == "kmax")) for name, family in FAMILIES.items()],
)
def test_a_program_has_the_logits_of_pytorch(family: Family, suffix: str, tmp_path: Path) -> None:
    whole = ExportedNetwork(network(family, *SHALLOW), "logits")
    file = tmp_path / f"program{suffix}"
    export(whole, file, {"results": "logits"}, portable=True)
    program = load(file)[0]
    for size in SIZES:
        pixels = image(*size)[None]
        with torch.no_grad():
            expected = whole(pixels)
        for exact, found in zip(expected, program(pixels), strict=True):
            # Relative to the output's range, which is 0.01 in one family's masks and 90 in another's.
            assert (found - exact).abs().max() < 1e-4 * exact.abs().max()


@pytest.mark.parametrize(
    "suffix",
    ["", pytest.param(".pt2", marks=pytest.mark.slow), pytest.param(".onnx", marks=[NEEDS_ONNX, pytest.mark.slow])],
)
@pytest.mark.parametrize("name", ["kmax", "max_deeplab"])
@torch.no_grad()
def test_a_program_has_the_panoptic_result(name: str, suffix: str, tmp_path: Path) -> None:
    """By the family's own rule, which goes through probabilities and the order of queries."""
    model = network(FAMILIES[name], *SHALLOW).eval()
    if name == "kmax":  # several classes, and masks that are sure
        predictor = model.sem_seg_head.predictor.get_submodule("_predcitor")
        torch.nn.init.normal_(predictor.get_submodule("_transformer_class_head").conv.weight, std=3.0)
        torch.nn.init.constant_(predictor.get_submodule("_pixel_space_mask_batch_norm").weight, 30.0)
    program = whole = ExportedNetwork(model, "panoptic")
    if suffix:
        export(whole, tmp_path / f"program{suffix}", {"results": "panoptic"}, portable=True)
        program = load(tmp_path / f"program{suffix}")[0]
    most = 0
    for size in SIZES:
        pixels = image(*size)
        expected, segments = model([{"image": pixels}])[0]["panoptic_seg"]
        ids, classes, scores = program(pixels[None])
        assert classes[: len(segments) + 1].tolist() == [*(one["category_id"] for one in segments), -1]
        assert (ids == expected).float().mean() > 0.999  # probabilities that are equal but for rounding
        assert (scores[: len(segments)] > 0).all()
        most = max(most, len(segments))
    assert most > 1


@ALL
@torch.no_grad()
def test_every_operation_is_counted(family: Family, caplog: pytest.LogCaptureFixture) -> None:
    model, pixels = network(family).eval(), image(64, 96).float()
    analysis = flop_counts.flop_analysis(model, pixels)
    assert analysis.total() > 0 and not analysis.unsupported_ops()
    assert "Unsupported" not in caplog.text
    parts = flop_counts.parts_of(model)
    assert len(parts) > 1
    counted, seconds = analyze.analyse(model, (64, 96), "cpu", 1)
    assert set(counted) == {*parts, "total"} and set(seconds) == set(counted)
    assert counted["total"][0] == sum(parameter.numel() for parameter in model.parameters())
    for column in (0, 1, 2):
        assert all(counted[part][column] > 0 for part in parts)
        assert sum(counted[part][column] for part in parts) <= counted["total"][column]
    assert len(analyze.table(counted, seconds).splitlines()) == len(parts) + 3


@ALL
@torch.no_grad()
def test_products_are_counted_without_values(family: Family) -> None:
    """Those of the device "meta" are fvcore's but for norms, resizing and softmax."""
    model = network(family).eval()
    everything = flop_counts.count(model, image(64, 96).float())
    products = flop_counts.count_products(network(family, "MODEL.DEVICE", "meta").eval(), (64, 96))
    for part in flop_counts.parts_of(model):
        assert products[part][0] == everything[part][0]
        assert 0.5 * everything[part][1] < products[part][1] <= everything[part][1], part
