"""Whole Hugging Face models with Swin and ResNet backbones: the same weights give the same results."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torchvision
from detectron2.modeling import build_model
from torch import Tensor, nn

from mask2former.checkpoint import MaskFormerCheckpointer
from mask2former.checkpoint.hf import from_hf, to_hf
from mask2former.modeling.cpu import make_plain

pytest.importorskip("transformers")
from hf_models import configuration, their_model

ENCODER = "model.pixel_level_module.encoder."


BACKBONES = ["swin", "resnet18", "resnet50"]


@pytest.fixture(scope="module", params=BACKBONES)
def theirs(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    model = their_model(request.param)
    model.kind = request.param
    return model


def is_kept(name: str) -> bool:
    """Not a norm that their backbone never uses, the class weights of the loss, or a count of training steps."""
    unused = {ENCODER + "swin.layernorm.weight", ENCODER + "swin.layernorm.bias", "criterion.empty_weight"}
    return name not in unused and not name.endswith("num_batches_tracked")


def older_spelling(name: str) -> str:
    """Of the releases that most files come from."""
    if not name.startswith(ENCODER):
        return name
    pairs = {
        ENCODER + "swin.": ENCODER,
        "attention.q_proj.": "attention.self.query.",
        "attention.k_proj.": "attention.self.key.",
        "attention.v_proj.": "attention.self.value.",
        "attention.o_proj.": "attention.output.dense.",
        "attention.relative_position_bias.": "attention.self.",
        "mlp.fc1.": "intermediate.dense.",
        "mlp.fc2.": "output.dense.",
    }
    for new, old in pairs.items():
        name = name.replace(new, old)
    return name


@pytest.mark.parametrize("older", [False, True])
@torch.no_grad()
def test_a_file_gives_the_same_results(theirs: nn.Module, tmp_path: Path, older: bool) -> None:
    state = theirs.state_dict()
    if older and theirs.kind != "swin":
        pytest.skip("spelled the same in all releases")
    if older:
        state = {older_spelling(name): value for name, value in state.items()}
        for name in [name for name in state if name.endswith("relative_position_bias_table")]:
            state[name.replace("bias_table", "index")] = torch.zeros(16, 16, dtype=torch.int64)
    torch.save(state, tmp_path / "pytorch_model.bin")
    ours = build_model(configuration(theirs.kind)).eval()
    checkpointer = MaskFormerCheckpointer(ours)
    checkpointer.load(str(tmp_path / "pytorch_model.bin"))
    report = checkpointer.report
    assert report.matched == report.total and report.format == "Hugging Face"
    assert not report.missing and not report.left_over and not report.reshaped

    make_plain(ours)  # another rounding can put a pixel on the other side of the attention masks' threshold
    images = torch.randn(2, 3, 96, 160)
    expected = theirs(pixel_values=images, output_auxiliary_logits=True)
    found = ours.sem_seg_head(ours.backbone(images))
    masks = found.masks.logits().squeeze(2)
    assert expected.class_queries_logits.std() > 0.1 and expected.masks_queries_logits.std() > 0.1
    torch.testing.assert_close(found.class_logits, expected.class_queries_logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(masks, expected.masks_queries_logits, atol=1e-4, rtol=0)


def test_conversion_is_exact_both_ways(theirs: nn.Module) -> None:
    state = theirs.state_dict()
    back = to_hf(from_hf(state))
    assert back.keys() == {name for name in state if is_kept(name)}
    for name, value in back.items():
        assert torch.equal(value, state[name]), name


def test_our_weights_are_theirs(theirs: nn.Module) -> None:
    ours = build_model(configuration(theirs.kind))
    state: dict[str, Tensor] = to_hf(ours.state_dict())
    report = copy.deepcopy(theirs).load_state_dict(state, strict=False)
    assert not report.unexpected_keys and not any(is_kept(name) for name in report.missing_keys)


def test_timm_backbone(theirs: nn.Module) -> None:
    """Theirs with a ResNet of timm's, whose names are torchvision's."""
    if not theirs.kind.startswith("resnet"):
        pytest.skip("of ResNets")
    state = {name: value for name, value in theirs.state_dict().items() if not name.startswith(ENCODER)}
    resnet = torchvision.models.get_model(theirs.kind, weights=None)
    state |= {f"{ENCODER}_backbone.{n}": v for n, v in resnet.state_dict().items() if not n.startswith("fc.")}
    ours = build_model(configuration(theirs.kind))
    checkpointer = MaskFormerCheckpointer(ours)
    checkpointer._load_model({"model": state})
    assert checkpointer.report.matched == checkpointer.report.total and not checkpointer.report.left_over
    assert torch.equal(ours.backbone.res3[1].conv2.weight, resnet.layer2[1].conv2.weight)
