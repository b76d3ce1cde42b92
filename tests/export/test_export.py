"""Exported files: the same results as PyTorch, from the command to the file read back."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from mask2former.config import load_config
from mask2former.data import register_all
from mask2former.export import OUTPUTS, ExportedNetwork, ExportError, export, load
from mask2former.export.check import compare

ROOT = Path(__file__).parents[2]
SIZES = ((64, 96), (97, 70), (130, 161))
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.SEM_SEG_HEAD.CONVS_DIM", "32", "MODEL.SEM_SEG_HEAD.MASK_DIM", "32"),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", "1", "MODEL.MASK_FORMER.HIDDEN_DIM", "32"),
    *("MODEL.MASK_FORMER.DEC_LAYERS", "3", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "4"),
    *("MODEL.MASK_FORMER.NUM_LOCATED_QUERIES", "8"),
    *("MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", "0.0", "TEST.DETECTIONS_PER_IMAGE", "10"),
]
BACKBONES = {
    "r18": [],
    "swin": [
        *("MODEL.BACKBONE.NAME", "D2SwinTransformer", "MODEL.SWIN.EMBED_DIM", "12"),
        *("MODEL.SWIN.DEPTHS", "[2, 1, 1, 1]", "MODEL.SWIN.NUM_HEADS", "[2, 2, 2, 2]"),
    ],
}
WITHOUT_US = """
import sys
sys.modules["mask2former"] = sys.modules["detectron2"] = None  # importing them is an error
import torch
program = torch.export.load(sys.argv[1]).module()
class_logits, mask_logits = program(torch.zeros((1, 3, 100, 150), dtype=torch.uint8))
print(*class_logits.shape, *mask_logits.shape)
"""
NEEDS_ONNX = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="needs onnx, onnxruntime and onnxscript: pip install 'mask2former[export]'",
)


def small_model(backbone: str = "r18") -> nn.Module:
    register_all("datasets")
    torch.manual_seed(0)
    return build_model(load_config(str(ROOT / "configs/quickstart/panoptic.yaml"), SMALL + BACKBONES[backbone])).eval()


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("export_tool", ROOT / "tools" / "export.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as training leaves it."""
    folder = tmp_path_factory.mktemp("output")
    model = small_model()
    cfg = load_config(str(ROOT / "configs/quickstart/panoptic.yaml"), SMALL)
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    return folder


def test_command_writes_a_program_for_all_sizes(
    tool: ModuleType, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "program.pt2"
    assert tool.main([str(trained), str(file), "--results", "panoptic", "--repeats", "1", "--size", "64", "96"]) == 0
    assert "100.000 %" in capsys.readouterr().out
    program, metadata = load(file)
    assert metadata["outputs"] == ["segments", "segment_classes", "segment_scores"]
    assert metadata["classes"][:2] == ["sky", "water"] or len(metadata["classes"]) == 12
    assert metadata["input"]["format"] == "RGB" and len(metadata["pixel_mean"]) == 3

    network = ExportedNetwork(small_model(), "panoptic")
    for row in compare(network, program, sizes=SIZES):
        assert row.difference < 1e-6 and row.equal_pixels == 1  # eager, a CPU's ResNet is fused

    with pytest.raises((RuntimeError, AssertionError), match=r"shape|size|dimension|[Gg]uard"):
        program(torch.zeros(1, 4, 64, 64, dtype=torch.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("portable", [False, True])
def test_logits_are_equal(backbone: str, portable: bool, tmp_path: Path) -> None:
    network = ExportedNetwork(small_model(backbone), "logits")
    file = tmp_path / "program.pt2"
    export(network, file, {"results": "logits"}, portable=portable)
    operators = {str(node.target) for node in torch.export.load(file).graph.nodes}
    assert any("mask2former" in name for name in operators) != portable
    for row in compare(network, load(file)[0], sizes=SIZES):
        assert row.difference is not None and row.difference < 1e-5
    if portable:
        done = subprocess.run([sys.executable, "-c", WITHOUT_US, str(file)], capture_output=True, text=True)
        assert done.stdout.split() == ["1", "12", "13", "1", "12", "32", "40"], done.stderr


@NEEDS_ONNX
@pytest.mark.parametrize(
    ("backbone", "results"),
    [
        # The quick tests write a program in tests/backends.
        *(pytest.param(backbone, "logits", marks=pytest.mark.slow) for backbone in BACKBONES),
        pytest.param("r18", "semantic", marks=pytest.mark.slow),
        *(pytest.param("r18", results, marks=pytest.mark.slow) for results in ("instance", "panoptic")),
    ],
)
def test_onnx(backbone: str, results: str, tmp_path: Path) -> None:
    import onnx

    network = ExportedNetwork(small_model(backbone), results)
    file = tmp_path / "program.onnx"
    export(network, file, {"results": results, "classes": ["a"]}, dtype="float32")
    graph = onnx.load(file).graph
    assert {node.domain for node in graph.node} == {""}
    assert "GridSample" in {node.op_type for node in graph.node}
    program, metadata = load(file)
    assert metadata == {"results": results, "classes": ["a"]}
    for row in compare(network, program, dtype="float32", sizes=SIZES):
        assert row.difference is None or row.difference < 1e-3
        assert row.equal_pixels > 0.999


def test_network_gives_what_the_model_gives() -> None:
    """Without export: padding, normalisation and sizes are those of the model."""
    model = small_model()
    for height, width in SIZES:
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
        with torch.no_grad():
            wanted = model([{"image": image}])[0]
            (classes,) = ExportedNetwork(model, "semantic")(image[None])
            ids, _, _ = ExportedNetwork(model, "panoptic")(image[None])
        assert (classes == wanted["sem_seg"].argmax(0)).float().mean() > 0.999
        assert (ids == wanted["panoptic_seg"][0]).float().mean() > 0.999


@pytest.mark.parametrize("head", ["PerPixelBaselineHead", "PerPixelBaselinePlusHead"])
def test_heads_that_classify_pixels_are_told(head: str) -> None:
    options = [*SMALL, "MODEL.SEM_SEG_HEAD.NAME", head]
    options += ["MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "StandardTransformerDecoder"]
    options += ["MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE", "res5"]
    model = build_model(load_config(str(ROOT / "configs/quickstart/panoptic.yaml"), options))
    with pytest.raises(ValueError, match=f"{head}, classifies pixels.*MaskFormerHead"):
        ExportedNetwork(model)


@NEEDS_ONNX
@pytest.mark.parametrize("content", [b"no model", b""])
def test_an_onnx_file_that_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(ExportError, match=r"bad\.onnx: onnxruntime cannot read it.*mask2former export"):
        load(tmp_path / "bad.onnx")


def test_errors(tool: ModuleType, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = ExportedNetwork(small_model(), "logits")
    with pytest.raises(ExportError, match=r"model\.pb: the suffix"):
        export(network, tmp_path / "model.pb", {})
    with pytest.raises(ExportError, match="no folder"):
        export(network, tmp_path / "none" / "model.pt2", {})
    with pytest.raises(ExportError, match="dtype is 'int8'"):
        export(network, tmp_path / "model.pt2", {}, dtype="int8")
    with pytest.raises(ExportError, match="no such file"):
        load(tmp_path / "model.pt2")
    with pytest.raises(ExportError, match=r"model\.pth: not an exported program"):
        (tmp_path / "model.pth").write_bytes(b"")
        load(tmp_path / "model.pth")
    (tmp_path / "text.pt2").write_text("no archive")
    with pytest.raises(ExportError, match=r"text\.pt2: not a \.pt2 archive.*mask2former export"):
        load(tmp_path / "text.pt2")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.pt2")
    with pytest.raises(ExportError, match=r"weights\.pt2: holds no mask2former\.json"):
        load(tmp_path / "weights.pt2")
    with pytest.raises(ValueError, match="Linear"):
        ExportedNetwork(nn.Linear(1, 1))
    with pytest.raises(ValueError, match=", ".join(OUTPUTS)):
        ExportedNetwork(small_model(), "boxes")
    assert tool.main([str(tmp_path / "missing.yaml"), str(tmp_path / "x.onnx")]) == 2
    assert "missing.yaml: no such configuration file" in capsys.readouterr().err


def test_code_in_a_configuration_runs_only_when_asked(
    tool: ModuleType, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "unsafe.yaml"
    lines = (trained / "config.yaml").read_text()
    config.write_text(f"{lines}\nOUTPUT_DIR: !!python/object/apply:os.getcwd []\n")
    words = [str(config), str(tmp_path / "x.pb"), "--opts", "MODEL.WEIGHTS", str(trained / "model_final.pth")]
    assert tool.main(words) == 2
    assert "--allow-unsafe-config" in capsys.readouterr().err
    assert tool.main(["--allow-unsafe-config", *words]) == 2
    assert "the suffix chooses the format" in capsys.readouterr().err, "the configuration was read"
