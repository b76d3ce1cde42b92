"""Published SegViT weights: names and shapes recorded from the published code, meanings by PyTorch's own layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from segvit_models import configuration
from torch import Tensor, nn

from mask2former.checkpoint.formats import convert, to_ours
from mask2former.checkpoint.segvit import number_of_classes
from mask2former.structures import MaskPrediction

FILE = Path(__file__).parents[1] / "spec/published_segvit.json"
PUBLISHED: dict[str, Any] = json.loads(FILE.read_text())["models"]
for recorded in PUBLISHED.values():
    if same := recorded.get("same_names_as"):
        recorded["state"] = PUBLISHED[same]["state"] | recorded["other_shapes"]


def published_configuration(name: str, **changes: Any) -> Any:
    recorded = PUBLISHED[name]
    case = recorded["case"]
    names = ("dim", "depth", "heads", "head_dim", "head_heads", "classes")
    shrink = {"shrink": case["shrink"]} if case["kind"] == "shrunk" else {}
    same = {key: case[key] for key in names}
    return configuration(
        case["kind"] == "shrunk", crop=recorded["crop"], taps=tuple(case["taps"]), **shrink, **same, **changes
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_and_shapes_are_ours(name: str) -> None:
    """On the meta device, where a model of 1.4 GB takes no memory."""
    recorded = PUBLISHED[name]
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in recorded["state"].items()}
        model = build_model(published_configuration(name, MODEL__DEVICE="meta"))
    format, ours = to_ours(state)
    assert format == "SegViT, published"
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in ours.items()} == wanted
    assert number_of_classes(state) == number_of_classes(ours) == recorded["case"]["classes"]
    back = convert(model.state_dict(), "published")
    assert {key: list(value.shape) for key, value in back.items()} == recorded["state"]
    unused = state["backbone.cls_token"].numel() + state["backbone.pos_embed"].shape[-1]
    assert sum(x.numel() for x in model.parameters()) == recorded["parameters"]["all"] - unused


def weights(shrunk: bool, **changes: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    """A small model, and random weights for it under published names."""
    torch.manual_seed(0)
    model = build_model(configuration(shrunk, MODEL__MASK_FORMER__DROPOUT=0.0, **changes)).eval()
    state = convert(model.state_dict(), "published")
    for name, value in state.items():
        if not name.endswith("empty_weight"):
            nn.init.normal_(value, std=0.3)
    return model, state


@pytest.mark.parametrize("shrunk", [False, True])
def test_there_and_back(shrunk: bool) -> None:
    model, state = weights(shrunk)
    model.load_state_dict(state, strict=True)
    back = convert(model.state_dict(), "published")
    assert set(back) == set(state)
    state["backbone.cls_token"].zero_()
    state["backbone.pos_embed"][:, 0] = 0
    for name, value in state.items():
        assert torch.equal(back[name], value), name


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


@torch.no_grad()
@pytest.mark.parametrize("shrunk", [False, True])
def test_names_mean_what_they_mean_in_pytorch(shrunk: bool) -> None:
    """The published layers derive from PyTorch's and keep its names; ATM layers have q, k, v where it packs them."""
    model, state = weights(shrunk)
    model.load_state_dict(state)
    x, memory, tokens = torch.randn(2, 5, 16), torch.randn(2, 9, 16), torch.randn(2, 7, 24)
    block = nn.TransformerEncoderLayer(24, 4, 96, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True)
    own = part(state, "backbone.layers.3.")
    renames = (("attn.attn.", "self_attn."), ("ffn.layers.0.0.", "linear1."), ("ffn.layers.1.", "linear2."))
    for theirs, name in (*renames, ("ln", "norm")):
        own = {key.replace(theirs, name): value for key, value in own.items()}
    block.load_state_dict(own)
    block.train()  # its fast path for inference computes GELU in another way
    torch.testing.assert_close(model.backbone.blocks[3](tokens), block(tokens), atol=1e-4, rtol=1e-4)

    layer = nn.TransformerDecoderLayer(16, 4, 64, 0.0, batch_first=True)
    head, predictor = model.sem_seg_head.pixel_decoder, model.sem_seg_head.predictor
    if shrunk:
        layer.load_state_dict(part(state, "decode_head.decoder_2.layers.1."))
        found = head.decoders[1][1](x, torch.zeros(1), memory, memory)
        torch.testing.assert_close(found, layer(x, memory), atol=1e-4, rtol=1e-4)
    own = part(state, f"decode_head.{'atm.decoder_1' if shrunk else 'decoder_3'}.layers.2.")
    for kind in ("weight", "bias"):
        pieces = [own.pop(f"multihead_attn.{name}.{kind}") for name in "qkv"]
        own[f"multihead_attn.in_proj_{kind}"] = torch.cat(pieces)
    own = {key.replace("multihead_attn.proj.", "multihead_attn.out_proj."): value for key, value in own.items()}
    layer.load_state_dict(own)
    found, _, _ = predictor.decoders[-1][2](x, memory)
    torch.testing.assert_close(found, layer(x, memory), atol=1e-4, rtol=1e-4)
    assert torch.equal(head.projections[1].linear.weight, state["decode_head.input_proj_2.weight"])
    assert torch.equal(head.projections[1].norm.weight, state["decode_head.proj_norm_2.weight"])


@torch.no_grad()
def test_tables_are_resized_to_the_model() -> None:
    model, state = weights(True)
    larger = build_model(configuration(True, crop=96, MODEL__MASK_FORMER__DROPOUT=0.0)).eval()
    larger.load_state_dict(state)
    assert larger.backbone.pos_embed.shape[1] == len(larger.sem_seg_head.pixel_decoder.query_embed.weight) == 36
    model.load_state_dict(state)
    images = torch.randn(1, 3, 96, 96)
    predictions: list[MaskPrediction] = [one.network(images) for one in (model, larger)]
    torch.testing.assert_close(predictions[0].class_logits, predictions[1].class_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(predictions[0].masks.logits(), predictions[1].masks.logits(), atol=1e-4, rtol=1e-4)


def test_other_classes_are_named_and_trained_anew(caplog: pytest.LogCaptureFixture) -> None:
    _, state = weights(False)
    model = build_model(configuration(False, classes=6))
    before = model.sem_seg_head.predictor.class_embed.weight.clone()
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert set(missing) == {f"sem_seg_head.predictor.{x}" for x in ("query_embed.weight", "class_embed.weight")} | {
        "sem_seg_head.predictor.class_embed.bias"
    }
    assert torch.equal(model.sem_seg_head.predictor.class_embed.weight, before)
    assert "The number of classes differs, 5 in the file and 6 in the model" in caplog.text


def test_hugging_face_has_no_such_model() -> None:
    with pytest.raises(ValueError, match="Hugging Face has no SegViT"):
        convert(weights(False)[1], "hf")


def test_timms_vit_is_the_start() -> None:
    """All of the backbone is filled, without the class token, and the position table has the crop's grid."""
    vit = pytest.importorskip("timm.models.vision_transformer")
    torch.manual_seed(0)
    state = vit.VisionTransformer(img_size=96, patch_size=16, embed_dim=24, depth=6, num_heads=4).state_dict()
    model = build_model(configuration(True))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert missing and all(name.startswith("sem_seg_head.") for name in missing)
    for name, value in model.backbone.state_dict().items():
        if name != "pos_embed":
            assert torch.equal(value, state[name]), name
    grid = state["pos_embed"][:, 1:].transpose(1, 2).unflatten(2, (6, 6))
    resized = nn.functional.interpolate(grid, (4, 4), mode="bicubic").flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.backbone.pos_embed.detach(), resized)
    assert not torch.equal(model.backbone.pos_embed, before["backbone.pos_embed"])
