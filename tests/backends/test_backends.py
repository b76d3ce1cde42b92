"""Other engines for the network: the same predictions as PyTorch's, of any size and batch, and what cannot be."""

from __future__ import annotations

import copy
import importlib.util
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from small_families import FAMILIES, network
from small_models import configuration
from torch import nn

from mask2former.backends import BackendError, engines, files, use_backend
from mask2former.backends.files import kept_program
from mask2former.backends.identity import settings_digest
from mask2former.export import BareNetwork, ExportError
from mask2former.export.int8 import module_of, quantise
from mask2former.predictor import Predictor
from mask2former_cli import run_command

EXPORT = ("onnx", "onnxruntime", "onnxscript")
NEEDS_EXPORT = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in EXPORT),
    reason="needs onnx, onnxruntime and onnxscript: pip install 'mask2former[export]'",
)
ENGINES = [
    "onnxruntime",
    pytest.param(
        "openvino",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("openvino") is None,
            reason="needs openvino: pip install 'mask2former[openvino]'",
        ),
    ),
]
SIZES = ((1, 64, 64), (2, 90, 131), (1, 128, 70))  # images, height, width


def small(family: str = "mask2former") -> nn.Module:
    return network(FAMILIES[family]).eval()


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Programs of this file's models alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FVCORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as training leaves it."""
    folder = tmp_path_factory.mktemp("output")
    (folder / "config.yaml").write_text(FAMILIES["mask2former"].configuration().dump())
    torch.save({"model": small().state_dict()}, folder / "model_final.pth")
    return folder


@pytest.fixture(scope="module")
def kept(cache: None) -> Path:
    """The small model's program, written where onnxruntime is missing, as OpenVINO needs none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        return kept_program(BareNetwork(small()))


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((1, 3, 7, 9), generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return (smooth[0].clamp(0, 1) * 255).byte()


@torch.no_grad()
def assert_equal_predictions(ours: nn.Module, theirs: nn.Module) -> None:
    for count, height, width in SIZES:
        batch = [{"image": image(height, width, seed)} for seed in range(count)]
        wanted, found = ours.predict_raw(batch)[0], theirs.predict_raw(batch)[0]
        for a, b in ((found.class_logits, wanted.class_logits), (found.masks.logits(), wanted.masks.logits())):
            spread = b.std().item()
            assert spread > 1e-3
            torch.testing.assert_close(a, b, rtol=0, atol=min(1e-4, spread / 100))  # masks of some are small at first


@NEEDS_EXPORT
@pytest.mark.parametrize("engine", ENGINES)
def test_a_predictor_gives_what_pytorch_gives(engine: str, trained: Path, kept: Path) -> None:
    plain, other = Predictor(trained), Predictor(trained, backend=engine)
    assert other.model.engine.name == f"{engine} {kept.stem}"
    assert plain.model.engine is None and other.model.engine is not None
    assert_equal_predictions(plain.model, other.model)
    picture = image(77, 101, 5).permute(1, 2, 0).numpy()
    wanted, found = plain(picture), other(picture)
    assert found.semantic.shape == (77, 101)
    assert (found.semantic == wanted.semantic).mean() > 0.999
    np.testing.assert_allclose(found.instances.scores, wanted.instances.scores, atol=1e-4)
    other.model.train()
    with pytest.raises(ValueError, match=r"another engine than PyTorch, which only infers.*leave out backend"):
        other.model([{"image": image(64, 64)}])


@NEEDS_EXPORT
@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "mask2former"])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_family(engine: str, family: str) -> None:
    other = small(family)
    use_backend(other, engine)
    assert_equal_predictions(small(family), other)


@NEEDS_EXPORT
def test_a_program_is_written_once_and_names_its_axes(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    bare = BareNetwork(small())
    file = kept_program(bare)
    written = file.stat().st_ino
    monkeypatch.setattr(files, "MOST_FILES", 2)
    for name in ("old", "older", "oldest", ".being_written"):
        (file.parent / f"{name}.onnx").write_text("")
    assert kept_program(bare) == file and file.stat().st_ino == written
    assert file in (left := list(file.parent.glob("*.onnx"))) and len(left) == 3
    assert file.with_name(".being_written.onnx") in left and file.with_name(f"{file.name}.lock").exists()
    graph = onnx.load(file).graph
    axes = {
        value.name: [one.dim_param or one.dim_value for one in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert axes["image"] == ["batch", 3, "height", "width"]
    assert axes["class_logits"] == ["batch", 12, 13]
    assert axes["mask_features"][0] == "batch" and axes["mask_features"][2:] == ["mask_height", "mask_width"]

    with pytest.raises(BackendError, match=r"other weights than this model's\. Export it again"):
        model = small()
        nn.init.zeros_(model.sem_seg_head.predictor.class_embed.weight)
        use_backend(model, "onnxruntime", file)
    program = onnx.load(file)
    del program.metadata_props[:]
    onnx.save(program, tmp_path / "anothers.onnx")
    with pytest.raises(BackendError, match=r"anothers\.onnx: has no property 'mask2former'"):
        use_backend(small(), "onnxruntime", tmp_path / "anothers.onnx")


@pytest.mark.parametrize(
    ("family", "option"),
    [
        ("segvit", ("MODEL.MASK_FORMER.NHEADS", 2)),
        ("mask2former", ("MODEL.MASK_FORMER.PRE_NORM", True)),
        ("eomt", ("MODEL.VIT.NUM_HEADS", 2)),
    ],
)
def test_settings_that_change_no_weights_count(family: str, option: tuple[str, object]) -> None:
    plain, other = small(family), build_model(FAMILIES[family].configuration(*option)).eval()
    shapes = [{name: value.shape for name, value in one.state_dict().items()} for one in (plain, other)]
    assert shapes[0] == shapes[1]
    assert settings_digest(plain) != settings_digest(other)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_settings_stay_alike(family: str) -> None:
    """Neither another process's model, nor use, nor a threshold changes them."""
    model = small(family)
    before = settings_digest(model)
    model.predict_raw([{"image": image(64, 64)}])
    model.train().eval()
    assert before == settings_digest(model)
    option = ("MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD", 0.3, "MODEL.PIXEL_STD", [1.0, 2.0, 3.0])
    assert before == settings_digest(build_model(FAMILIES[family].configuration(*option)))


@NEEDS_EXPORT
def test_a_program_of_other_settings_is_refused(kept: Path) -> None:
    other = build_model(FAMILIES["mask2former"].configuration("MODEL.MASK_FORMER.PRE_NORM", True))
    other.load_state_dict(small().state_dict())
    with pytest.raises(BackendError, match=r"a program of other settings .*the weights are the same"):
        use_backend(other, "onnxruntime", kept)


@NEEDS_EXPORT
def test_programs_that_are_strange(kept: Path, tmp_path: Path) -> None:
    import onnx

    file = tmp_path / "strange.onnx"

    def assert_refused(told: str, change: Any) -> None:
        program = onnx.load(kept)
        change(program)
        file.write_bytes(program.SerializeToString())  # onnx.save would look for the other file
        with pytest.raises(BackendError, match=rf"strange\.onnx: {told}"):
            use_backend(small(), "onnxruntime", file)

    def metadata(text: str) -> Any:
        return lambda program: setattr(program.metadata_props[0], "value", text)

    assert_refused(
        r"its property 'mask2former' is incomplete \(KeyError\('weights'\)", metadata('{"results": "network"}')
    )
    assert_refused("its property 'mask2former' is no JSON", metadata("{"))
    assert_refused("its inputs are x, but have to be image", lambda one: setattr(one.graph.input[0], "name", "x"))
    assert_refused(
        r"onnxruntime cannot read it.*Export it again", lambda one: setattr(one.graph.node[0], "op_type", "X")
    )

    def elsewhere(program: Any) -> None:
        tensor = program.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../secret")

    assert_refused("takes weights from other files", elsewhere)


@NEEDS_EXPORT
@pytest.mark.parametrize("engine", ENGINES)
def test_a_damaged_kept_program_is_written_anew(
    engine: str, kept: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = kept.read_bytes()
    monkeypatch.setattr(files, "export", lambda network, file, *_, **__: file.write_bytes(whole))  # which takes seconds
    kept.write_bytes(whole[:1000])
    model = small()
    use_backend(model, engine)
    assert kept.read_bytes() == whole and f"{engine} cannot read it" in caplog.text
    assert model.engine.name == f"{engine} {kept.stem}"
    assert copy.deepcopy(model).engine is model.engine
    with pytest.raises(BackendError, match=r"cannot be pickled\. Set model\.engine = None"):
        pickle.dumps(model)


@NEEDS_EXPORT
@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs owners of files")
def test_programs_of_other_users_are_not_run(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    other = kept.parent.with_name(f"mask2former_programs_{user + 1}")
    other.mkdir()
    (other / kept.name).write_bytes(b"")
    with pytest.raises(BackendError, match=rf"belongs to another user \(number {user}\)"):
        use_backend(small(), "onnxruntime")


@NEEDS_EXPORT
def test_openvino_keeps_few_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results after a size was thrown out and compiled again are those of before."""
    pytest.importorskip("openvino", reason="needs openvino: pip install 'mask2former[openvino]'")
    monkeypatch.setattr(engines, "MOST_SIZES", 1)
    run = engines.openvino_opener()(kept_program(BareNetwork(small())), 1)
    first, second = (np.full((1, 3, side, 64), 0.5, np.float32) for side in (64, 96))
    before, between, after = run(first), run(second), run(first)
    assert before[2].shape[2] * 96 == between[2].shape[2] * 64
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


@NEEDS_EXPORT
@pytest.mark.parametrize("engine", ENGINES)
def test_8_bits(engine: str, tmp_path: Path) -> None:
    """Weights of the chosen products have 8 bits, those of sensitive parts do not; the prediction is still alike."""
    import onnx

    model, file = small(), tmp_path / "int8.onnx"
    batches = [{"image": image(64, 96, seed)} for seed in range(4)]
    counts = quantise(
        kept_program(BareNetwork(model)), file, (model.preprocess([one]).images.tensor.numpy() for one in batches)
    )
    convolutions = sum(isinstance(one, nn.Conv2d) for one in [*model.backbone.modules()])
    assert counts["Conv"] > convolutions and counts["MatMul"] >= 4 and counts["Add"] == 16  # blocks of an R50
    graph = onnx.load(file).graph
    kinds = {one.name: onnx.TensorProto.DataType.Name(one.data_type) for one in graph.initializer}
    sources = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm") and module_of(node):
            source = sources.get(node.input[1])
            is_8_bits = source is not None and source.op_type == "DequantizeLinear"
            assert is_8_bits == (is_8_bits and kinds[source.input[0]] == "INT8")
            if any(part in module_of(node) for part in ("predictor", "sampling_offsets", "mask_features")):
                assert not is_8_bits
            elif node.op_type == "Conv":
                assert is_8_bits
    other = small()
    use_backend(other, engine, file)
    with torch.no_grad():
        wanted, found = (one.predict_raw(batches[:1])[0].masks.logits().flatten() for one in (model, other))
    assert 0.9 < torch.corrcoef(torch.stack([wanted, found]))[0, 1] < 1 - 1e-6


@NEEDS_EXPORT
def test_8_bits_need_images(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no images to calibrate on"):
        quantise(kept_program(BareNetwork(small())), tmp_path / "int8.onnx", [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["net.pt2", "--int8", "--calibrate", "x"], "ends in .onnx"),
        (["net.onnx", "--int8"], "--int8 needs --calibrate IMAGES"),
        (["net.onnx", "--results", "network", "--calibrate", "x"], "--calibrate is for --int8 alone"),
        (["net.onnx", "--results", "panoptic", "--int8", "--calibrate", "x"], "found panoptic"),
        (["net.onnx", "--int8", "--calibrate", "x", "--calibration-images", "0"], "has to be at least 1"),
        (["net.onnx", "--int8", "--calibrate", "nowhere"], "nowhere"),
    ],
)
def test_words_that_do_not_fit(words: list[str], told: str, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("export", [str(trained), *words]) == 2
    assert told in capsys.readouterr().err


def test_what_cannot_be_is_told(trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="backend is 'tensorrt'; choose one of torch, onnxruntime, openvino"):
        Predictor(trained, backend="tensorrt")
    with pytest.raises(BackendError, match="is for another engine than PyTorch"):
        use_backend(small(), "torch", "a.onnx")
    with pytest.raises(BackendError, match="runs models that predict masks; this one is Linear"):
        use_backend(nn.Linear(1, 1), "onnxruntime")
    cfg = configuration()
    cfg.MODEL.MASK_ENCODER.ENABLED = True
    with pytest.raises(BackendError, match="this model has a mask encoder"):
        use_backend(build_model(cfg), "onnxruntime")
    cfg = configuration(v1=True)
    cfg.MODEL.SEM_SEG_HEAD.NAME = "PerPixelBaselineHead"
    cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE = "res5"
    with pytest.raises(BackendError, match="PerPixelBaselineHead, classifies pixels"):
        use_backend(build_model(cfg), "onnxruntime")
    cfg = configuration()
    cfg.MODEL.META_ARCHITECTURE = "VideoMaskFormer"
    cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME = "LocatedQueryDecoder"
    cfg.MODEL.MASK_FORMER.NUM_LOCATED_QUERIES = 6
    cfg.MODEL.MASK_FORMER.LOSS_TERMS = ["ClassLoss", "MaskAndDiceLoss", "PlaceLoss"]
    with pytest.raises(BackendError, match=r"all frames of a clip at once.*TEST\.CLIP tracker"):
        use_backend(build_model(cfg), "onnxruntime")
    cfg.MODEL.MASK_FORMER.TEST.CLIP = "tracker"  # as the message says
    assert BareNetwork(build_model(cfg)).form.activation == "sigmoid"
    with pytest.raises(BackendError, match=r"none\.onnx: no such file"):
        use_backend(small(), "onnxruntime", tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(BackendError, match=r"bad\.onnx: not an ONNX file, or damaged"):
        use_backend(small(), "onnxruntime", tmp_path / "bad.onnx")


@pytest.mark.parametrize(("engine", "extra"), [("onnxruntime", "export"), ("openvino", "openvino")])
def test_a_missing_package_is_named(engine: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, engine, None)  # importing it is an error
    with pytest.raises(BackendError, match=rf"{engine}.*pip install 'mask2former\[{extra}\]'"):
        use_backend(small(), engine, tmp_path / "any.onnx")
