"""timm's backbones by name: features as timm's own, whatever their layout; refusals."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import Backbone, build_backbone

from mask2former import add_maskformer2_config
from mask2former.config import load_config

CONFIG = str(Path(__file__).parents[3] / "configs" / "quickstart" / "semantic.yaml")


def backbone(name: str, **values: object) -> Backbone:
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.TIMM.NAME, cfg.MODEL.TIMM.PRETRAINED = "TimmBackbone", name, False
    for key, value in values.items():
        cfg.MODEL.TIMM[key] = value
    return build_backbone(cfg).eval()


@pytest.mark.parametrize(
    ("name", "channels", "arguments"),
    [
        ("convnext_atto", [40, 80, 160, 320], {}),
        ("resnet18", [64, 128, 256, 512], {}),  # timm also gives stride 2, which is left out
        ("swin_tiny_patch4_window7_224", [96, 192, 384, 768], {"img_size": [64, 96]}),  # channels last in timm
    ],
)
@torch.no_grad()
def test_gives_the_features_of_timm(name: str, channels: list[int], arguments: dict[str, object]) -> None:
    timm = pytest.importorskip("timm")
    ours = backbone(name, ARGUMENTS=type(get_cfg())(arguments))
    assert [(n, s.channels, s.stride) for n, s in ours.output_shape().items()] == [
        (f"res{i + 2}", channels[i], 4 * 2**i) for i in range(4)
    ]
    whole = timm.create_model(name, **arguments).eval()
    assert not whole.load_state_dict(
        {k.removeprefix("net."): v for k, v in renamed(ours, whole).items()}, strict=False
    )[1]
    images = torch.randn(2, 3, 64, 96)
    features = ours(images)
    expected = whole.forward_intermediates(images, intermediates_only=True)[-4:]
    for (feature, shape), theirs in zip(ours.output_shape().items(), expected, strict=True):
        assert features[feature].shape == (2, shape.channels, 64 // shape.stride, 96 // shape.stride)
        torch.testing.assert_close(features[feature], theirs, rtol=1e-4, atol=1e-5)


def renamed(ours: Backbone, whole: torch.nn.Module) -> dict[str, torch.Tensor]:
    """timm's feature models write "stages_0" for the classifiers' "stages.0"."""
    state, known = ours.net.state_dict(), whole.state_dict().keys()
    renamed = {}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        dotted = f"{first.replace('_', '.')}.{rest}"
        renamed[key if key in known else dotted] = value
    return renamed


def test_named_levels_and_frozen_statistics() -> None:
    pytest.importorskip("timm")
    ours = backbone("resnet18", OUT_INDICES=[0, 4], FREEZE_NORM=True).train()
    assert {name: shape.stride for name, shape in ours.output_shape().items()} == {"res1": 2, "res5": 32}
    assert ours.size_divisibility == 32
    before = {name: value.clone() for name, value in ours.named_buffers()}
    assert [tuple(x.shape) for x in ours(torch.randn(2, 3, 64, 64)).values()] == [(2, 64, 32, 32), (2, 512, 2, 2)]
    assert before and all(torch.equal(value, before[name]) for name, value in ours.named_buffers())


def test_a_model_without_a_pyramid_is_refused() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="not a pyramid's: each has to be a different power of 2"):
        backbone("vit_tiny_patch16_224")
    with pytest.raises(ValueError, match="no_such_model"):
        backbone("no_such_model")


def test_trains_in_a_mask_architecture() -> None:
    """Every parameter that is used gets a gradient, at a size that no stride divides."""
    pytest.importorskip("timm")
    from detectron2.modeling import build_model
    from detectron2.structures import BitMasks, Instances

    options = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.NAME", "TimmBackbone", "MODEL.TIMM.PRETRAINED", "False"]
    model = build_model(load_config(CONFIG, [*options, "MODEL.TIMM.NAME", "convnext_atto"]))
    masks = BitMasks(torch.rand(2, 70, 90) > 0.5)
    target = Instances((70, 90), gt_classes=torch.tensor([1, 3]), gt_masks=masks)
    losses = model([{"image": torch.randint(0, 255, (3, 70, 90)), "instances": target}])
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.backbone.parameters())


def test_without_timm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install timm, or mask2former\[timm\]"):
        backbone("convnext_atto")
