"""Whole Hugging Face models with a Swin backbone: the same weights give the same results."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from torch import Tensor, nn

from mask2former import add_maskformer2_config
from mask2former.checkpoint import MaskFormerCheckpointer
from mask2former.checkpoint.hf import from_hf, to_hf

transformers = pytest.importorskip("transformers")
ENCODER = "model.pixel_level_module.encoder."
CHANNELS, QUERIES, CLASSES = 32, 12, 7


def their_model() -> nn.Module:
    swin = transformers.SwinConfig(
        embed_dim=12,
        depths=[2, 1, 3, 2],
        num_heads=[1, 2, 3, 4],
        window_size=4,
        drop_path_rate=0.0,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = transformers.Mask2FormerConfig(
        backbone_config=swin,
        feature_size=CHANNELS,
        mask_feature_size=CHANNELS,
        hidden_dim=CHANNELS,
        encoder_feedforward_dim=48,
        dim_feedforward=64,
        encoder_layers=2,
        decoder_layers=4,
        num_attention_heads=4,
        num_queries=QUERIES,
        num_labels=CLASSES,
        dropout=0.0,
    )
    model = transformers.Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = parameter.dim() == 1 and name.endswith("weight")
            scale = 0.3 if parameter.dim() == 1 else parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn_like(parameter) * scale + norm)
    return model


def configuration() -> CfgNode:
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "MaskFormer"
    cfg.MODEL.BACKBONE.NAME = "D2SwinTransformer"
    swin, head, former = cfg.MODEL.SWIN, cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    swin.EMBED_DIM, swin.DEPTHS, swin.NUM_HEADS, swin.WINDOW_SIZE = 12, [2, 1, 3, 2], [1, 2, 3, 4], 4
    head.NAME, head.PIXEL_DECODER_NAME = "MaskFormerHead", "MSDeformAttnPixelDecoder"
    head.IN_FEATURES, head.NORM, head.NUM_CLASSES = ["res2", "res3", "res4", "res5"], "GN", CLASSES
    head.CONVS_DIM = head.MASK_DIM = former.HIDDEN_DIM = CHANNELS
    head.TRANSFORMER_ENC_LAYERS, head.DEFORMABLE_TRANSFORMER_ENCODER_DIM_FEEDFORWARD = 2, 48
    former.TRANSFORMER_IN_FEATURE = "multi_scale_pixel_decoder"
    former.NHEADS, former.DIM_FEEDFORWARD, former.DEC_LAYERS, former.DROPOUT = 4, 64, 4, 0.0
    former.NUM_OBJECT_QUERIES = QUERIES
    return cfg


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(0)
    return their_model()


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
    if older:
        state = {older_spelling(name): value for name, value in state.items()}
        for name in [name for name in state if name.endswith("relative_position_bias_table")]:
            state[name.replace("bias_table", "index")] = torch.zeros(16, 16, dtype=torch.int64)
    torch.save(state, tmp_path / "pytorch_model.bin")
    ours = build_model(configuration()).eval()
    left_over = MaskFormerCheckpointer(ours)._load_model({"model": dict(state)})
    assert not left_over.missing_keys and not left_over.unexpected_keys
    MaskFormerCheckpointer(ours).load(str(tmp_path / "pytorch_model.bin"))

    pictures = torch.randn(2, 3, 96, 160)
    expected = theirs(pixel_values=pictures, output_auxiliary_logits=True)
    found = ours.sem_seg_head(ours.backbone(pictures))
    masks = found.masks.logits().squeeze(2)
    assert expected.class_queries_logits.std() > 0.1 and expected.masks_queries_logits.std() > 0.1
    torch.testing.assert_close(found.class_logits, expected.class_queries_logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(masks, expected.masks_queries_logits, atol=1e-4, rtol=0)


def test_conversion_is_exact_both_ways(theirs: nn.Module) -> None:
    state = theirs.state_dict()
    back = to_hf(from_hf(state))
    # A norm that their backbone never uses, and the class weights of the loss, are not ours to keep.
    unused = {ENCODER + "swin.layernorm.weight", ENCODER + "swin.layernorm.bias", "criterion.empty_weight"}
    assert back.keys() == state.keys() - unused
    for name, value in back.items():
        assert torch.equal(value, state[name]), name


def test_our_weights_are_theirs(theirs: nn.Module) -> None:
    ours = build_model(configuration())
    state: dict[str, Tensor] = to_hf(ours.state_dict())
    report = their_model().load_state_dict(state, strict=False)
    assert not report.unexpected_keys
    assert set(report.missing_keys) <= {
        ENCODER + "swin.layernorm.weight",
        ENCODER + "swin.layernorm.bias",
        "criterion.empty_weight",
    }
