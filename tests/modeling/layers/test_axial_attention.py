"""Axial attention against its formulas, written pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mask2former.modeling.layers.axial_attention import AxialAttention, AxialAttention2d, RelativePositions
from mask2former.modeling.layers.batch_norm import BatchNorm

HEADS = 2


def attention(axis: str = "height") -> AxialAttention:
    torch.manual_seed(0)
    module = AxialAttention(3, key_channels=4, value_channels=6, axis=axis, num_heads=HEADS).double()  # type: ignore[arg-type]
    for norm in module.modules():
        if isinstance(norm, BatchNorm):
            torch.nn.init.normal_(norm.weight)
            torch.nn.init.normal_(norm.bias)
            torch.nn.init.normal_(norm.running_mean)
            torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    return module


def slow(module: AxialAttention, lines: Tensor) -> Tensor:
    """Compute the attention within lines [B, L, C] -> [B, L, value channels] from the formulas, number by number."""
    state = module.state_dict()

    def norm(name: str, values: Tensor, channel: int) -> Tensor:
        scale, shift = state[f"{name}.weight"][channel], state[f"{name}.bias"][channel]
        if module.training:
            mean, variance = values.mean(), values.var(correction=0)
        else:
            mean, variance = state[f"{name}.running_mean"][channel], state[f"{name}.running_var"][channel]
        return (values - mean) / (variance + 0.001) ** 0.5 * scale + shift

    batch, length = lines.shape[:2]
    qkv = lines @ state["qkv_transform.conv.weight"][:, :, 0].T
    qkv = torch.stack([norm("_batch_norm_qkv", qkv[..., c], c) for c in range(14)], -1)
    q, k, v = (part.unflatten(-1, (HEADS, -1)) for part in qkv.split([4, 4, 6], -1))
    tables = {name: state[f"_{name}_rpe._embeddings.weight"] for name in ("query", "key", "value")}
    result = torch.zeros(batch, length, 6, dtype=lines.dtype)
    for head in range(HEADS):
        terms = torch.zeros(3, batch, length, length, dtype=lines.dtype)
        for b in range(batch):
            for i in range(length):
                for j in range(length):
                    row = 254 + max(-254, min(254, j - i))
                    terms[0, b, i, j] = q[b, i, head] @ k[b, j, head]
                    terms[1, b, i, j] = q[b, i, head] @ tables["query"][row]
                    terms[2, b, i, j] = k[b, j, head] @ tables["key"][row]
        logits = sum(norm("_batch_norm_similarity", terms[t], t * HEADS + head) for t in range(3))
        assert isinstance(logits, Tensor)
        a = logits.exp() / logits.exp().sum(-1, keepdim=True)
        content, located = (torch.zeros(batch, length, 3, dtype=lines.dtype) for _ in range(2))
        for b in range(batch):
            for i in range(length):
                for j in range(length):
                    content[b, i] += a[b, i, j] * v[b, j, head]
                    located[b, i] += a[b, i, j] * tables["value"][254 + max(-254, min(254, j - i))]
        for c in range(3):
            channel = head * 3 + c
            result[..., channel] = norm("_batch_norm_retrieved_output", content[..., c], channel)
            result[..., channel] += norm("_batch_norm_retrieved_output", located[..., c], 6 + channel)
    return result


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("axis", ["height", "width"])
def test_attention_equals_its_formulas(axis: str, training: bool) -> None:
    module = attention(axis).train(training)
    x = torch.randn(2, 3, 4, 3, dtype=torch.float64)
    lines = x.permute(0, 3, 2, 1) if axis == "height" else x.permute(0, 2, 3, 1)  # [B, other axis, L, C]
    expected = slow(module, lines.flatten(0, 1)).unflatten(0, lines.shape[:2])
    expected = expected.permute(0, 3, 2, 1) if axis == "height" else expected.permute(0, 3, 1, 2)
    torch.testing.assert_close(module(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
def test_gradients(training: bool) -> None:
    module = attention().train(training)
    x = torch.randn(1, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, x)


def test_table_has_no_gradient_at_unused_distances() -> None:
    module = attention()
    module(torch.randn(1, 3, 3, 2, dtype=torch.float64)).square().sum().backward()
    gradient = module._value_rpe._embeddings.weight.grad
    assert gradient is not None
    assert gradient.abs().sum(1).nonzero().flatten().tolist() == [252, 253, 254, 255, 256]


def test_far_positions_share_the_last_row() -> None:
    vectors = RelativePositions(2)
    with torch.no_grad():
        vectors._embeddings.weight.copy_(torch.arange(509.0)[:, None].expand(-1, 2))
    rows = vectors(300)[..., 0]
    assert rows[10].tolist() == [float(min(254 + j - 10, 508)) for j in range(300)]
    assert rows[299, 0] == rows[299, 45] == 0
    assert rows[299, 46] == 1


def test_height_then_width_with_stride() -> None:
    torch.manual_seed(0)
    module = AxialAttention2d(3, key_channels=4, value_channels=6, num_heads=2, stride=2).eval()
    x = torch.randn(1, 3, 5, 7)
    columns = module._height_axis(x)[:, :, ::2]
    assert module(x).shape == (1, 6, 3, 4)
    torch.testing.assert_close(module(x), module._width_axis(columns)[..., ::2])
    # A pixel sees its own column and then its own row: the whole image.
    changed = x.clone()
    changed[..., 4, 6] += 1
    assert not torch.allclose(module(changed)[..., 0, 0], module(x)[..., 0, 0])


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="6 key and 8 value channels among 4 heads"):
        AxialAttention(3, key_channels=6, value_channels=8, axis="height", num_heads=4)


def test_a_single_value_of_a_channel_is_normalised_as_at_inference() -> None:
    norm = BatchNorm(3)
    x = torch.randn(1, 3, 1, 1)
    torch.testing.assert_close(norm(x), x / 1.001**0.5)
    assert norm.running_mean is not None and not norm.running_mean.any()
