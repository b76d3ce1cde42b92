"""Weights of kMaX-DeepLab and of ConvNeXt: files load whole, and go back as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_backbone, build_sem_seg_head
from small_models import kmax
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.checkpoint import MaskFormerCheckpointer
from mask2former.checkpoint.formats import convert, to_ours
from mask2former.checkpoint.weights_io import write
from mask2former.modeling import D2ConvNeXt

DEPTHS, DIMS = [1, 2, 1, 1], [4, 8, 12, 16]


def model(classes: int = 7) -> nn.ModuleDict:
    cfg = kmax()
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = classes
    backbone = build_backbone(cfg)
    return nn.ModuleDict({"backbone": backbone, "sem_seg_head": build_sem_seg_head(cfg, backbone.output_shape())})


def filled(module: nn.Module) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        name: torch.rand_like(value) if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_published_files_load_whole(suffix: str, tmp_path: Path) -> None:
    published, target = filled(model()), model()
    file = str(tmp_path / f"kmax.{suffix}")
    write(published, file)
    checkpointer = MaskFormerCheckpointer(target)
    checkpointer.load(file)
    assert checkpointer.report is not None and checkpointer.report.format == "kMaX-DeepLab"
    assert checkpointer.report.matched == checkpointer.report.total and not checkpointer.report.left_over
    for name, value in target.state_dict().items():
        torch.testing.assert_close(value, published[name], rtol=0, atol=0)


def test_weights_go_back_exactly() -> None:
    published = filled(model())
    without = {name: value for name, value in published.items() if not name.endswith("num_batches_tracked")}
    back = convert(to_ours(without)[1], "published")
    assert back.keys() == published.keys()
    assert all(torch.equal(back[name], value) for name, value in published.items())
    with pytest.raises(ValueError, match="Hugging Face has no kMaX-DeepLab"):
        convert(published, "hf")


def test_another_number_of_classes_is_reported(tmp_path: Path) -> None:
    file = str(tmp_path / "kmax.pth")
    write(filled(model(5)), file)
    checkpointer = MaskFormerCheckpointer(model(7))
    checkpointer.load(file)
    assert checkpointer.report is not None and not checkpointer.report.foreign
    assert "classes differs, 5 in the file and 7 in the model" in checkpointer.report.resized_lines()[0]


def test_another_network_is_refused(tmp_path: Path) -> None:
    file = str(tmp_path / "kmax.pth")
    state = filled(model())
    write({k: v[None] if "pixel_decoder" in k else v for k, v in state.items()}, file)
    with pytest.raises(ValueError, match=r"nothing that fits (?:\S+ and )?sem_seg_head.pixel_decoder"):
        MaskFormerCheckpointer(model()).load(file)


def test_authors_convnext_is_a_start() -> None:
    backbone = D2ConvNeXt(depths=DEPTHS, dims=DIMS)
    state = filled(backbone)
    classifier = {"norm.weight": torch.ones(16), "head.weight": torch.ones(3, 16), "head.bias": torch.ones(3)}
    name, converted = to_ours({**state, **classifier})
    assert name == "ConvNeXt classifier"
    assert converted.keys() == {f"backbone.{key}" for key in state}
    assert all(torch.equal(converted[f"backbone.{key}"], value) for key, value in state.items())


@pytest.mark.parametrize("conv_mlp", [False, True])
@torch.no_grad()
def test_timms_convnext_is_a_start(conv_mlp: bool) -> None:
    """Its features are ours where the image is padded as ours pads it; later strides pad again."""
    timm = pytest.importorskip("timm")
    theirs = timm.create_model(
        "convnext_tiny", depths=DEPTHS, dims=DIMS, num_classes=3, conv_mlp=conv_mlp, pretrained=False
    ).eval()
    theirs.load_state_dict(filled(theirs))
    name, converted = to_ours(theirs.state_dict())
    assert name == "timm ConvNeXt"
    ours = D2ConvNeXt(depths=DEPTHS, dims=DIMS).eval()
    ours.load_state_dict({key.removeprefix("backbone."): value for key, value in converted.items()})
    image = torch.randn(1, 3, 33, 65)
    expected = theirs.stages[0](theirs.stem(F.pad(image, (1, 2, 1, 2))))
    torch.testing.assert_close(ours(image)["res2"], expected, rtol=1e-4, atol=1e-4)
