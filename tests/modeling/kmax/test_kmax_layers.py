"""Parts of kMaX-DeepLab against its formulas, written with the assignment as a matrix, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mask2former.modeling.backbone import D2ConvNeXt
from mask2former.modeling.kmax.layer import KMeansLayer, sum_of_pixels
from mask2former.modeling.kmax.pixel_decoder import Block, ResizedFuse
from mask2former.modeling.kmax.predictor import MaskNorm, Predictor
from mask2former.modeling.layers.batch_norm import BatchNorm
from mask2former.structures import PIXEL_EMBEDDING, FactoredMasks

HEADS, CLASSES = 2, 5


class Oracle:
    """Formulas on parameters by name; batch norms as at training or at inference."""

    def __init__(self, module: nn.Module) -> None:
        self.state, self.training = module.state_dict(), module.training

    def norm(self, name: str, x: Tensor) -> Tensor:
        view = (1, -1, *[1] * (x.ndim - 2))
        get = lambda key: self.state[f"{name}.{key}"].view(view)  # noqa: E731
        if self.training:
            dims = [d for d in range(x.ndim) if d != 1]
            mean, variance = x.mean(dims, keepdim=True), x.var(dims, keepdim=True, correction=0)
        else:
            mean, variance = get("running_mean"), get("running_var")
        return (x - mean) / torch.sqrt(variance + 0.001) * get("weight") + get("bias")

    def conv(self, name: str, x: Tensor, act: bool = False) -> Tensor:
        """Apply a convolution and its norm, each output pixel from the window around it."""
        weight = self.state[f"{name}.conv.weight"]
        if weight.ndim == 3:
            y = torch.einsum("oi,bin->bon", weight[..., 0], x)
        else:
            side, (height, width) = weight.shape[-1], x.shape[-2:]
            padded = torch.zeros(*x.shape[:2], height + side - 1, width + side - 1, dtype=x.dtype)
            padded[:, :, side // 2 : side // 2 + height, side // 2 : side // 2 + width] = x
            y = torch.zeros(len(x), len(weight), height, width, dtype=x.dtype)
            for row in range(side):
                for column in range(side):
                    window = padded[:, :, row : row + height, column : column + width]
                    if weight.shape[1] == 1 and x.shape[1] > 1:
                        y += weight[:, 0, row, column].view(1, -1, 1, 1) * window
                    else:
                        y += torch.einsum("oi,bihw->bohw", weight[:, :, row, column], window)
        if f"{name}.conv.bias" in self.state:
            y = y + self.state[f"{name}.conv.bias"].view(1, -1, *[1] * (y.ndim - 2))
        if f"{name}.norm.weight" in self.state:
            y = self.norm(f"{name}.norm", y)
        return gelu(y) if act else y

    def predict(self, name: str, pixels: Tensor, slots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return class logits [B, N, K + 1], mask logits [B, N, h, w] and g."""
        g = self.conv(f"{name}_pixel_space_head_conv0bnact", pixels, act=True)
        g = self.conv(f"{name}_pixel_space_head_conv1bnact", g, act=True)
        g = self.conv(f"{name}_pixel_space_head_last_convbn", g)
        g = g / g.square().sum(1, keepdim=True).sqrt()
        f = self.conv(f"{name}_transformer_mask_head", slots)
        z = self.norm(f"{name}_pixel_space_mask_batch_norm", torch.einsum("bdn,bdhw->bnhw", f, g)[:, None])[:, 0]
        classes = self.conv(f"{name}_transformer_class_head", slots).transpose(1, 2)
        classes[..., -1] += math.log(CLASSES * 0.9 / 0.1)
        return classes, z, g


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def disturbed(module: nn.Module) -> nn.Module:
    """Give every parameter and statistic a value that shows if it is not used."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, BatchNorm):
            for tensor in (part.weight, part.bias, part.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(part.running_var, 0.5, 2)
        elif isinstance(part, nn.Conv1d | nn.Conv2d) and part.bias is not None:
            nn.init.normal_(part.bias)
    return module.double()


def layer() -> KMeansLayer:
    module = KMeansLayer(
        6, channels=8, num_classes=CLASSES, mask_dim=4, feed_forward=12, num_heads=HEADS, drop_path=0.0
    )
    disturbed(module)
    return module


def slow_layer(module: KMeansLayer, y: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    o = Oracle(module)
    p = o.conv("_pixel_conv1_bn_act", gelu(y), act=True)
    u = o.conv("_query_conv1_bn_act", q, act=True)
    _, z, _ = o.predict("_predcitor.", p, u)
    a = torch.zeros_like(z)
    for b, row, column in torch.cartesian_prod(*map(torch.arange, (len(z), *z.shape[2:]))).tolist():
        a[b, int(z[b, :, row, column].argmax()), row, column] = 1
    total = torch.einsum("bnhw,bchw->bcn", a, o.conv("_pixel_v_conv_bn", p))
    q1 = q + o.conv("_kmeans_query_conv3_bn", o.norm("_kmeans_query_batch_norm_retrieved_value", total))
    query, key, value = o.conv("_query_qkv_conv_bn", u).split([4, 4, 8], 1)
    query, key, value = (x.unflatten(1, (HEADS, -1)) for x in (query, key, value))
    s = o.norm("_query_self_attention._batch_norm_similarity", torch.einsum("bhdi,bhdj->bhij", query, key))
    weights = s.exp() / s.exp().sum(-1, keepdim=True)
    v = torch.einsum("bhij,bhdj->bhdi", weights, value).flatten(1, 2)
    v = gelu(o.norm("_query_self_attention._batch_norm_retrieved_value", v))
    q2 = gelu(q1 + o.conv("_query_conv3_bn", v))
    hidden = o.conv("_query_ffn_conv1_bn_act", q2, act=True)
    return gelu(q2 + o.conv("_query_ffn_conv2_bn", hidden)), z


@pytest.mark.parametrize("training", [True, False])
def test_layer_equals_its_formulas(training: bool) -> None:
    module = layer().train(training)
    y, q = torch.randn(2, 6, 5, 4, dtype=torch.float64), torch.randn(2, 8, 7, dtype=torch.float64)
    expected, z = slow_layer(module, y, q)
    slots, embed, features, _ = module(y, q)
    torch.testing.assert_close(slots, expected)
    found = FactoredMasks(embed, features).logits()[:, :, 0]
    torch.testing.assert_close(found - found.mean(1, keepdim=True), z - z.mean(1, keepdim=True))


@pytest.mark.parametrize("training", [True, False])
def test_predictor_equals_its_formulas(training: bool) -> None:
    module = disturbed(Predictor(6, 8, 4, CLASSES)).train(training)
    assert isinstance(module, Predictor)
    pixels, slots = torch.randn(2, 6, 5, 4, dtype=torch.float64), torch.randn(2, 8, 7, dtype=torch.float64)
    classes, z, g = Oracle(module).predict("", pixels, slots)
    masks = module.masks(pixels, slots)
    prediction = module.predict(masks, slots)
    torch.testing.assert_close(prediction.class_logits, classes)
    torch.testing.assert_close(prediction.extras[PIXEL_EMBEDDING], g)
    assert masks.activation == "softmax" and masks.align_corners
    torch.testing.assert_close(masks.logits()[:, :, 0].softmax(1), z.softmax(1))


def test_mask_norm_is_the_batch_norm_of_the_product() -> None:
    """Outputs but for a constant, gradients, and running statistics, without the product."""
    torch.manual_seed(0)
    module, reference = MaskNorm().double(), BatchNorm(1, 0.1).double()
    f = torch.randn(2, 6, 4, dtype=torch.float64, requires_grad=True)
    g = torch.randn(2, 4, 9, dtype=torch.float64, requires_grad=True)
    wanted = torch.randn(2, 6, 9, dtype=torch.float64)
    wanted = wanted - wanted.mean()  # then a constant on all logits changes no loss
    found = module(f, g) @ g
    expected = reference((f @ g)[:, None])[:, 0]
    torch.testing.assert_close(found - found.mean(), expected - expected.mean())
    gradients = [
        torch.autograd.grad((value * wanted).sum(), (f, g, norm.weight))
        for value, norm in ((found, module), (expected, reference))
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(module, name), getattr(reference, name))
    assert not module.bias.requires_grad


def test_pixels_are_added_to_their_slots() -> None:
    torch.manual_seed(0)
    masks = FactoredMasks(torch.randn(2, 5, 3), torch.randn(2, 3, 1, 4, 6))
    values = torch.randn(2, 7, 4, 6, requires_grad=True)
    owner = masks.logits()[:, :, 0].argmax(1)
    one_hot = nn.functional.one_hot(owner, 5).float()
    expected = torch.einsum("bhwn,bchw->bcn", one_hot, values)
    found = sum_of_pixels(masks, values)
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    torch.testing.assert_close(values.grad, 2 * torch.einsum("bhwn,bcn->bchw", one_hot, expected.detach()))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("in_channels", [3, 12])
def test_bottleneck_equals_its_formulas(training: bool, in_channels: int) -> None:
    module = disturbed(Block(in_channels, 3, kind="bottleneck", drop_path=0.0, num_heads=1)).train(training)
    o, x = Oracle(module), torch.randn(2, in_channels, 4, 5, dtype=torch.float64)
    active = gelu(x)
    inner = o.conv("_conv2_bn_act", o.conv("_conv1_bn_act", active, act=True), act=True)
    expected = o.conv("_conv3_bn", inner) + (active if in_channels == 12 else o.conv("_shortcut", active))
    torch.testing.assert_close(module(x), expected)


def test_axial_block_equals_its_formulas() -> None:
    module = disturbed(Block(3, 4, kind="axial", drop_path=0.0, num_heads=2)).eval()
    o, x = Oracle(module), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    attention = module.get_submodule("_attention")  # its own test has the formulas
    inner = gelu(attention(o.conv("_conv1_bn_act", gelu(x), act=True)))
    torch.testing.assert_close(module(x), o.conv("_conv3_bn", inner) + o.conv("_shortcut", gelu(x)))


def test_fuse_leaves_out_maps_that_fit() -> None:
    module = disturbed(ResizedFuse(6, 3, 3)).eval()
    low, high = torch.randn(1, 6, 2, 3, dtype=torch.float64), torch.randn(1, 3, 3, 5, dtype=torch.float64)
    small = Oracle(module).conv("_conv_bn_low", gelu(low))
    wide = torch.stack(
        [small[..., 0], small[..., :2].mean(-1), small[..., 1], small[..., 1:].mean(-1), small[..., 2]], -1
    )
    tall = torch.stack([wide[:, :, 0], wide.mean(2), wide[:, :, 1]], 2)  # corners stay, new cells lie halfway
    torch.testing.assert_close(module(low, high), tall + high)


def test_convnext_pads_as_published() -> None:
    """A stride's new right and bottom cells are zeros before the norm, so they carry its bias."""
    torch.manual_seed(0)
    model = D2ConvNeXt(depths=[1, 1, 1, 1], dims=[2, 3, 4, 5], out_features=["stem", "res2", "res3", "res4", "res5"])
    model.eval().double()
    images = torch.randn(1, 3, 65, 33, dtype=torch.float64)
    features = model(images)
    assert list(features) == ["res2", "res3", "res4", "res5", "stem"] == list(model.output_shape())
    assert [tuple(x.shape) for x in features.values()] == [
        (1, 2, 17, 9), (1, 3, 9, 5), (1, 4, 5, 3), (1, 5, 3, 2), (1, 2, 17, 9),
    ]  # fmt: skip
    state = model.state_dict()
    norm, conv = "downsample_layers.1.0.", "downsample_layers.1.1."
    with torch.no_grad():
        nn.init.normal_(state[norm + "bias"])
        padded = torch.zeros(1, 2, 18, 10, dtype=torch.float64)
        padded[:, :, :17, :9] = model(images)["res2"]
        mean, variance = padded.mean(1, keepdim=True), padded.var(1, keepdim=True, correction=0)
        normed = (padded - mean) / (variance + 1e-6).sqrt()
        normed = normed * state[norm + "weight"].view(1, -1, 1, 1) + state[norm + "bias"].view(1, -1, 1, 1)
        corner = torch.einsum("oihw,ihw->o", state[conv + "weight"], normed[0, :, 16:, 8:]) + state[conv + "bias"]
        calls: list[Tensor] = []
        handle = model.stages[1].register_forward_pre_hook(lambda _, inputs: calls.append(inputs[0]))
        model(images)
        handle.remove()
    torch.testing.assert_close(calls[0][0, :, 8, 4], corner)
