"""Pixel decoder and transformer decoder against Hugging Face's, with the same weights and the same features."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import nn

from mask2former.checkpoint.hf import from_hf, to_hf
from mask2former.modeling import MaskFormerHead, MSDeformAttnPixelDecoder, MultiScaleMaskedTransformerDecoder

hf = pytest.importorskip("transformers.models.mask2former.modeling_mask2former")
STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


@dataclass
class Setting:
    """One size of the network and of the images it sees."""

    backbone_channels: tuple[int, int, int, int]
    channels: int
    feedforward: tuple[int, int]  # of the pixel decoder, of the transformer decoder
    heads: int
    layers: tuple[int, int]
    queries: int
    classes: int
    image: tuple[int, int]


SMALL = Setting((8, 16, 24, 32), 32, (48, 64), 4, (2, 4), 12, 7, (96, 160))
FULL = Setting((256, 512, 1024, 2048), 256, (1024, 2048), 8, (6, 9), 100, 133, (256, 320))


class HuggingFaceHead(nn.Module):
    """Their pixel decoder, transformer and classifier under the names of their whole model."""

    def __init__(self, s: Setting) -> None:
        super().__init__()
        config = hf.Mask2FormerConfig(
            feature_size=s.channels,
            mask_feature_size=s.channels,
            hidden_dim=s.channels,
            encoder_feedforward_dim=s.feedforward[0],
            dim_feedforward=s.feedforward[1],
            encoder_layers=s.layers[0],
            decoder_layers=s.layers[1] + 1,
            num_attention_heads=s.heads,
            num_queries=s.queries,
            num_labels=s.classes,
            dropout=0.0,
        )
        self.model = nn.Module()
        self.model.pixel_level_module = nn.Module()
        self.model.pixel_level_module.decoder = hf.Mask2FormerPixelDecoder(config, list(s.backbone_channels))
        self.model.transformer_module = hf.Mask2FormerTransformerModule(s.channels, config)
        self.class_predictor = nn.Linear(s.channels, s.classes + 1)

    def forward(self, features: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        pixel = self.model.pixel_level_module.decoder(features, output_hidden_states=False, return_dict=True)
        output = self.model.transformer_module(
            list(pixel.multi_scale_features), pixel.mask_features, output_hidden_states=True
        )
        classes = [self.class_predictor(x.transpose(0, 1)) for x in output.intermediate_hidden_states]
        return classes, list(output.masks_queries_logits)


def our_head(s: Setting) -> MaskFormerHead:
    shapes = {
        name: ShapeSpec(channels=channels, stride=stride)
        for (name, stride), channels in zip(STRIDES.items(), s.backbone_channels, strict=True)
    }
    pixel_decoder = MSDeformAttnPixelDecoder(
        shapes,
        transformer_in_features=["res3", "res4", "res5"],
        conv_dim=s.channels,
        mask_dim=s.channels,
        norm="GN",
        num_heads=s.heads,
        num_points=4,
        dim_feedforward=s.feedforward[0],
        num_layers=s.layers[0],
        dropout=0.0,
        common_stride=4,
    )
    decoder = MultiScaleMaskedTransformerDecoder(
        s.channels,
        num_classes=s.classes,
        hidden_dim=s.channels,
        num_queries=s.queries,
        num_heads=s.heads,
        dim_feedforward=s.feedforward[1],
        num_layers=s.layers[1],
        pre_norm=False,
        mask_dim=s.channels,
        enforce_input_project=False,
    )
    return MaskFormerHead(shapes, pixel_decoder=pixel_decoder, transformer_decoder=decoder)


def random_pair(s: Setting) -> tuple[HuggingFaceHead, MaskFormerHead, list[torch.Tensor]]:
    """The two heads with the same random weights, and features of two images."""
    torch.manual_seed(0)
    theirs, ours = HuggingFaceHead(s).eval(), our_head(s).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            is_norm = "norm" in name or (parameter.dim() == 1 and name.endswith("weight"))
            scale = 1.0 if parameter.dim() == 1 else parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn_like(parameter) * scale * 0.3 + (name.endswith("weight") and is_norm))
    incompatible = ours.load_state_dict(
        {name.removeprefix("sem_seg_head."): value for name, value in from_hf(theirs.state_dict()).items()},
        strict=True,
    )
    assert not incompatible.missing_keys
    height, width = s.image
    features = [
        torch.randn(2, channels, height // stride, width // stride)
        for channels, stride in zip(s.backbone_channels, STRIDES.values(), strict=True)
    ]
    return theirs, ours, features


@pytest.mark.parametrize("setting", [SMALL, FULL], ids=["small", "full-size"])
@torch.no_grad()
def test_logits_and_masks_equal(setting: Setting) -> None:
    theirs, ours, features = random_pair(setting)
    classes, masks = theirs(features)
    prediction = ours(dict(zip(STRIDES, features, strict=True)))
    layers = [*prediction.aux, prediction]
    assert len(layers) == len(classes) == len(masks) == setting.layers[1] + 1
    for layer, their_classes, their_masks in zip(layers, classes, masks, strict=True):
        assert their_classes.std() > 0.1 and their_masks.std() > 0.1  # neither is trivially zero
        torch.testing.assert_close(layer.class_logits, their_classes, atol=1e-4, rtol=0)
        torch.testing.assert_close(layer.masks.logits().squeeze(2), their_masks, atol=1e-4, rtol=0)


def test_gradients_equal() -> None:
    """In float64, where no pixel of an attention mask changes sides by rounding."""
    theirs, ours, features = random_pair(SMALL)
    theirs, ours = theirs.double(), ours.double()
    inputs = [[x.double().requires_grad_() for x in features] for _ in range(2)]
    classes, masks = theirs(inputs[0])
    prediction = ours(dict(zip(STRIDES, inputs[1], strict=True)))
    (classes[-1].square().mean() + masks[-1].square().mean()).backward()
    (prediction.class_logits.square().mean() + prediction.masks.logits().square().mean()).backward()
    for one, other in zip(*inputs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-7, rtol=1e-4)


def test_conversion_is_exact_both_ways() -> None:
    theirs = HuggingFaceHead(SMALL).state_dict()
    back = to_hf(from_hf(theirs))
    assert back.keys() == theirs.keys()
    for name, value in theirs.items():
        # Hugging Face leaves a parameter uninitialised, so it may hold NaN.
        torch.testing.assert_close(back[name], value, rtol=0, atol=0, equal_nan=True, msg=name)
