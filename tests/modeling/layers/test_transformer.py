"""DETR's layers against PyTorch's, which know no position: with positions of zero both are the same."""

from __future__ import annotations

import oracles
import pytest
import torch
from oracles import randomise
from torch import nn

from mask2former.modeling.layers.transformer import DecoderLayer, EncoderLayer

SIZES = {"num_heads": 2, "dim_feedforward": 16, "dropout": 0.0}
TORCH = {"nhead": 2, "dim_feedforward": 16, "dropout": 0.0, "batch_first": True, "dtype": torch.float64}


def load(theirs: nn.Module, names: dict[str, nn.Module]) -> None:
    theirs.load_state_dict({f"{name}.{k}": v for name, part in names.items() for k, v in part.state_dict().items()})


@pytest.mark.parametrize("pre_norm", [False, True])
def test_encoder_layer(pre_norm: bool) -> None:
    ours = randomise(EncoderLayer(8, pre_norm=pre_norm, **SIZES))
    theirs = nn.TransformerEncoderLayer(8, norm_first=pre_norm, **TORCH)
    attention, ffn = ours.self_attention, ours.feed_forward
    names = {"self_attn": attention.attention, "norm1": attention.norm, "norm2": ffn.norm}
    load(theirs, names | {"linear1": ffn.linear1, "linear2": ffn.linear2})
    x, place = (torch.randn(*shape, dtype=torch.float64) for shape in ((2, 5, 8), (5, 8)))
    torch.testing.assert_close(ours(x, 0 * place), theirs(x))
    expected = oracles.feed_forward(ffn, oracles.self_attend(attention, x[1], place))
    torch.testing.assert_close(ours(x, place)[1], expected)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_decoder_layer(pre_norm: bool) -> None:
    ours = randomise(DecoderLayer(8, pre_norm=pre_norm, **SIZES))
    theirs = nn.TransformerDecoderLayer(8, norm_first=pre_norm, **TORCH)
    own, cross, ffn = ours.self_attention, ours.cross_attention, ours.feed_forward
    names = {"self_attn": own.attention, "multihead_attn": cross.attention, "norm1": own.norm, "norm2": cross.norm}
    load(theirs, names | {"norm3": ffn.norm, "linear1": ffn.linear1, "linear2": ffn.linear2})
    x, place, memory = (torch.randn(*shape, dtype=torch.float64) for shape in ((2, 5, 8), (5, 8), (2, 7, 8)))
    torch.testing.assert_close(ours(x, 0 * place, memory, memory), theirs(x, memory))
    key, value = memory[1], memory[0]
    expected = oracles.cross_attend(cross, oracles.self_attend(own, x[1], place), place, key, value)
    found = ours(x[1:], place, key[None], value[None])[0]
    torch.testing.assert_close(found, oracles.feed_forward(ffn, expected))


def test_matrices_are_drawn_after_xavier() -> None:
    layer = EncoderLayer(64, num_heads=2, dim_feedforward=256, dropout=0.0, pre_norm=False)
    bound = (6 / (64 + 256)) ** 0.5
    for weight in (layer.feed_forward.linear1.weight, layer.feed_forward.linear2.weight):
        assert 0.95 * bound < weight.abs().max() <= bound
