"""Weights of backbones by themselves: Swin's own classification checkpoints and torchvision's ResNets."""

from __future__ import annotations

import io
import pickle
import re
import struct
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import torchvision
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import Tensor, nn

from mask2former import add_maskformer2_config
from mask2former.checkpoint import MaskFormerCheckpointer
from mask2former.checkpoint.detectron2_resnet import from_caffe2
from mask2former.checkpoint.formats import convert
from mask2former.checkpoint.swin import from_swin, is_swin
from mask2former.checkpoint.torchvision import from_torchvision, is_torchvision
from mask2former.modeling import D2SwinTransformer
from mask2former.modeling.layers.window_attention import relative_position_index

SMALL = {"embed_dim": 12, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 3, 4)}
OUTPUT_NORMS = {f"backbone.norm{i}.{kind}" for i in range(4) for kind in ("weight", "bias")}


class Model(nn.Module):
    """A backbone at its place in a model."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


def classifier(window: int) -> dict[str, Tensor]:
    """What a Swin classifier's checkpoint holds."""
    state = dict(D2SwinTransformer(**SMALL, window_size=window).state_dict())
    state = {name: torch.randn_like(value) for name, value in state.items() if not name.startswith("norm")}
    for name in [name for name in state if name.endswith("bias_table")]:
        state[name.replace("bias_table", "index")] = relative_position_index(window)
    state["layers.1.blocks.1.attn_mask"] = torch.zeros(4, window**2, window**2)
    state |= {"norm.weight": torch.ones(96), "norm.bias": torch.zeros(96)}
    return state | {"head.weight": torch.zeros(10, 96), "head.bias": torch.zeros(10)}


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_swin_classifier_is_loaded(tmp_path: Path, suffix: str) -> None:
    state = classifier(4)
    path = tmp_path / ("swin" + suffix)
    if suffix == ".pth":
        torch.save({"model": state}, path)
    else:  # as the published system's own converter writes it
        arrays = {name: value.numpy() for name, value in state.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "third_party", "matching_heuristics": True}))
    model = Model(D2SwinTransformer(**SMALL, window_size=4))
    before = model.state_dict()["backbone.norm3.weight"].clone()
    checkpointer = MaskFormerCheckpointer(model)
    report = checkpointer._load_model(checkpointer._load_file(str(path)))
    assert set(report.missing_keys) == OUTPUT_NORMS and not report.unexpected_keys  # classifiers have none
    after = model.state_dict()
    assert torch.equal(after["backbone.norm3.weight"], before)
    loaded = {name for name in after if name not in OUTPUT_NORMS}
    assert loaded and all(torch.equal(after[name], state[name.removeprefix("backbone.")]) for name in loaded)


def test_tables_of_another_window_are_resized() -> None:
    state = classifier(4)
    table = "layers.0.blocks.0.attn.relative_position_bias_table"
    y, x = torch.meshgrid(torch.linspace(-1, 1, 7), torch.linspace(-1, 1, 7), indexing="ij")
    state[table] = (2 * y + x).flatten()[:, None]  # a slope, whose direction must survive
    model = Model(D2SwinTransformer(**SMALL, window_size=7))
    MaskFormerCheckpointer(model)._load_model({"model": state})
    resized = model.backbone.layers[0].blocks[0].attn.relative_position_bias_table.detach().view(13, 13)
    assert resized[6, 6] == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(resized, -resized.flip(0, 1), atol=1e-5, rtol=0)
    dy, dx = resized.diff(dim=0), resized.diff(dim=1)
    torch.testing.assert_close(dy, 2 * dx.T)
    # Bicubic interpolation keeps slopes roughly, away from the border: 2/3 a row on 7 rows, now on 13.
    torch.testing.assert_close(dy[3:-3], torch.full((6, 13), 2 / 3 * 7 / 13), atol=0.05, rtol=0)


def test_absolute_positions_become_a_map() -> None:
    state = classifier(4) | {"absolute_pos_embed": torch.randn(1, 16 * 16, 12)}
    assert is_swin(state)
    converted = from_swin(state)["backbone.absolute_pos_embed"]
    assert converted.shape == (1, 12, 16, 16)
    assert torch.equal(converted[0, :, 2, 5], state["absolute_pos_embed"][0, 2 * 16 + 5])
    model = Model(D2SwinTransformer(**SMALL, window_size=4, absolute_position=96))
    assert from_swin(state, model.state_dict())["backbone.absolute_pos_embed"].shape == (1, 12, 24, 24)


def resnet_config(depth: int, **values: object) -> CfgNode:
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    node = cfg.MODEL.RESNETS
    node.DEPTH, node.STRIDE_IN_1X1, node.OUT_FEATURES = depth, False, ["res2", "res3", "res4", "res5"]
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    if depth < 50:
        node.RES2_OUT_CHANNELS = 64
    for key, value in values.items():
        node[key] = value
    return cfg


@pytest.mark.parametrize("depth", [18, 50])
@torch.no_grad()
def test_torchvision_resnet_gives_the_same_features(tmp_path: Path, depth: int) -> None:
    theirs = torchvision.models.get_model(f"resnet{depth}", weights=None).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(theirs.state_dict(), tmp_path / "resnet.pth")
    assert is_torchvision(theirs.state_dict())
    ours = Model(build_backbone(resnet_config(depth), ShapeSpec(channels=3))).eval()
    assert from_torchvision(theirs.state_dict()).keys() == ours.state_dict().keys()
    MaskFormerCheckpointer(ours).load(str(tmp_path / "resnet.pth"))
    images = torch.randn(1, 3, 64, 96)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
    for name, feature in ours.backbone(images).items():
        x = theirs.get_submodule(f"layer{int(name[-1]) - 1}")(x)
        torch.testing.assert_close(feature, x, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_timm_stem_of_three_convolutions() -> None:
    """timm's resnet50c and its kin, and DeepLab's stem in Detectron2."""
    state = torchvision.models.resnet50(weights=None).state_dict()
    stem = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, 1, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, 1, 1, bias=False),
    )
    del state["conv1.weight"]
    for i in (1, 4):
        stem[i].running_mean.normal_(std=0.1)
    state |= {f"conv1.{name}": value for name, value in stem.state_dict().items()}
    state["bn1.weight"].uniform_(0.5, 1.5)
    cfg = resnet_config(50, STEM_TYPE="deeplab")
    cfg.MODEL.BACKBONE.NAME = "build_resnet_deeplab_backbone"
    cfg.MODEL.RESNETS.RES5_MULTI_GRID = [1, 1, 1]
    ours = Model(build_backbone(cfg, ShapeSpec(channels=3))).eval()
    checkpointer = MaskFormerCheckpointer(ours)
    checkpointer._load_model({"model": dict(state)})
    assert checkpointer.report.matched == checkpointer.report.total and not checkpointer.report.left_over
    image = torch.randn(1, 3, 64, 64)
    x = torch.relu(stem.eval()(image) / (1 + 1e-5) ** 0.5 * state["bn1.weight"][:, None, None])
    expected = nn.functional.max_pool2d(x, 3, 2, 1)
    torch.testing.assert_close(ours.backbone.stem(image), expected, atol=1e-5, rtol=1e-4)


def test_variants_that_detectron2_has_not() -> None:
    state = torchvision.models.resnet18(weights=None).state_dict() | {"layer2.0.downsample.2.weight": torch.ones(2)}
    with pytest.raises(NotImplementedError, match=r"no part like layer2\.0\.downsample\.2\.weight"):
        from_torchvision(state)


def test_timm_counts_the_steps_between_stages_from_the_next() -> None:
    state = classifier(4)
    late = {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[2:3] == ["downsample"]:
            parts[1] = str(int(parts[1]) + 1)
        late[".".join(parts)] = value
    assert late.keys() != state.keys()
    expected, found = from_swin(state), from_swin(late)
    assert found.keys() == expected.keys() and all(torch.equal(found[n], expected[n]) for n in found)


class Python2Pickler(pickle._Pickler):
    """Text and bytes are one type, as in the programs that wrote Detectron's files."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def save_text(self, value: str | bytes) -> None:
        data = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_text


def python2_file(content: object) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue().replace(b"numpy._core", b"numpy.core")


def caffe2_names(state: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Detectron's names for Caffe2: scale and bias of the normalisation, and a classifier."""
    arrays = {}
    for name, value in state.items():
        name = name.replace("stem.conv1.norm", "res.conv1_bn").replace("stem.", "").replace(".norm", "_bn")
        name = name.replace("shortcut", "branch1")
        for i, letter in enumerate("abc", start=1):
            name = re.sub(rf"^(res\d\.\d+)\.conv{i}", rf"\1.branch2{letter}", name)
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            short = "_s" if name.endswith("_bn.weight") else "_" + name.rsplit(".", 1)[1][0]
            arrays[name.rsplit(".", 1)[0].replace(".", "_") + short] = value.numpy()
    arrays |= {f"{name}_momentum": value for name, value in arrays.items()}
    return arrays | {"fc1000_w": np.ones((10, 8), "f4"), "fc1000_b": np.ones(10, "f4")}


def detectron2_names(state: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """As Detectron2's converter writes torchvision's ResNets, classifier included."""
    arrays = {name: value.numpy() for name, value in state.items()}
    steps = {name.replace("mean", "x").replace("running_x", "num_batches_tracked") for name in arrays if "mean" in name}
    classifier = {"stem.fc.weight": np.ones((10, 8), "f4"), "stem.fc.bias": np.ones(10, "f4")}
    return arrays | classifier | {name: np.array(1) for name in steps}


@pytest.mark.parametrize("norm", ["FrozenBN", "SyncBN"])
@pytest.mark.parametrize("layout", ["Caffe2 classifier", "Caffe2 detector", "Detectron2"])
@pytest.mark.parametrize("depth", [50, 101])
def test_resnets_that_detectron2_hands_out(tmp_path: Path, layout: str, norm: str, depth: int) -> None:
    """R-50.pkl and R-101.pkl, which published configurations start from, in each layout that such names mean."""
    width = {"STEM_OUT_CHANNELS": 8, "RES2_OUT_CHANNELS": 16, "WIDTH_PER_GROUP": 4, "NORM": norm}
    source, ours = (Model(build_backbone(resnet_config(depth, **width), ShapeSpec(channels=3))) for _ in range(2))
    for value in source.state_dict().values():
        if value.dtype.is_floating_point:
            value.uniform_(0.5, 1.5)
    state = source.backbone.state_dict()
    if layout == "Detectron2":
        content = {"model": detectron2_names(state), "__author__": "torchvision", "matching_heuristics": True}
        data = pickle.dumps(content, protocol=2)
    else:
        arrays = caffe2_names(state)
        data = python2_file({"blobs": arrays, "cfg": "text"} if layout.endswith("detector") else arrays)
        assert "res4_0_branch2a_w" in arrays and "res_conv1_bn_s" in arrays and "res2_0_branch1_bn_b" in arrays
    path = tmp_path / f"R-{depth}.pkl"
    path.write_bytes(data)
    checkpointer = MaskFormerCheckpointer(ours)
    checkpointer.load(str(path))

    report, loaded = checkpointer.report, ours.backbone.state_dict()
    assert report.format.startswith(layout.split()[0]) and not report.left_over and not report.reshaped
    for name, value in loaded.items():
        if layout.startswith("Caffe2") and "running" in name:
            assert f"backbone.{name}" in report.missing and torch.allclose(value, torch.full_like(value, "var" in name))
        elif not name.endswith("num_batches_tracked"):
            assert torch.equal(value, state[name]), name


def test_caffe2_file_with_code_is_refused(tmp_path: Path) -> None:
    data = python2_file({"conv1_w": np.ones(3, "f4"), "res2_0_branch2a_w": print})
    (tmp_path / "R-50.pkl").write_bytes(data)
    with pytest.raises(ValueError, match=r"R-50\.pkl is not loaded: it names __builtin__\.print"):
        MaskFormerCheckpointer(Model(nn.Linear(1, 1))).load(str(tmp_path / "R-50.pkl"))


def test_detectors_parts_keep_their_names() -> None:
    """Of a whole detector, a backbone is taken and the rest is reported under its own names."""
    one = torch.ones(1)
    state = {"conv1_w": one, "conv1_b": one, "res2_0_branch2a_w": one, "fpn_inner_res2_2_sum_w": one}
    assert set(from_caffe2(state)) == {
        "backbone.stem.conv1.weight",
        "backbone.stem.conv1.bias",
        "backbone.res2.0.conv1.weight",
        "fpn.inner.res2.2.sum.weight",
    }


@pytest.mark.parametrize("target", ["ours", "published"])
def test_they_can_be_converted(target: str) -> None:
    one = torch.ones(1)
    names = {"backbone.stem.conv1.weight", "backbone.res2.0.conv1.weight", "backbone.res2.0.conv1.norm.bias"}
    caffe2 = {"conv1_w": one, "res2_0_branch2a_w": one, "res2_0_branch2a_bn_b": one, "fc1000_b": one}
    detectron2 = {name.removeprefix("backbone."): one for name in names} | {"stem.fc.weight": one}
    assert convert(caffe2, target).keys() == convert(detectron2, target).keys() == names
