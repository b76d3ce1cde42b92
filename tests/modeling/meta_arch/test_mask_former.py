"""MaskFormer (v1): against Hugging Face's parts with the same weights, and against PyTorch's transformer layers."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_sem_seg_head
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former import add_maskformer2_config
from mask2former.checkpoint.published import from_published, is_published, to_published

CHANNELS, HEADS, FEEDFORWARD, QUERIES, CLASSES = 64, 4, 96, 9, 7
SHAPES = {f"res{i + 2}": ShapeSpec(channels=8 * (i + 1), stride=4 * 2**i) for i in range(4)}
HEAD = "sem_seg_head."


def configuration(**changes: object) -> CfgNode:
    """Of a small head; keys of ``changes`` are below MODEL.MASK_FORMER, or HEAD_... below MODEL.SEM_SEG_HEAD."""
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    head, former = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    head.NAME, head.IN_FEATURES, head.NORM, head.NUM_CLASSES = "MaskFormerHead", list(SHAPES), "GN", CLASSES
    head.CONVS_DIM = head.MASK_DIM = former.HIDDEN_DIM = CHANNELS
    former.TRANSFORMER_DECODER_NAME = "StandardTransformerDecoder"
    former.NHEADS, former.DIM_FEEDFORWARD, former.DEC_LAYERS, former.DROPOUT = HEADS, FEEDFORWARD, 2, 0.0
    former.NUM_OBJECT_QUERIES = QUERIES
    for key, value in changes.items():
        node = head if key.startswith("HEAD_") else former
        node[key.removeprefix("HEAD_")] = value
    return cfg


def backbone_features(height: int = 64, width: int = 96) -> dict[str, Tensor]:
    return {n: torch.randn(2, s.channels, -(-height // s.stride), -(-width // s.stride)) for n, s in SHAPES.items()}


def randomise(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            scale = 0.3 if parameter.dim() == 1 else parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn_like(parameter) * scale + (parameter.dim() == 1))


def load_published(head: nn.Module, state: Mapping[str, Tensor]) -> None:
    assert is_published(state)
    ours = {name.removeprefix(HEAD): value for name, value in from_published(state).items()}
    head.load_state_dict(ours, strict=True)


# Hugging Face's names and those of published MaskFormer files, whose pixel decoder has no level of its own.
THEIRS = [
    (r"^fpn\.stem\.0", HEAD + "layer_4"),
    (r"^fpn\.stem\.1", HEAD + "layer_4.norm"),
    *((rf"^fpn\.layers\.{i}\.proj\.0", HEAD + f"adapter_{3 - i}") for i in range(3)),
    *((rf"^fpn\.layers\.{i}\.proj\.1", HEAD + f"adapter_{3 - i}.norm") for i in range(3)),
    *((rf"^fpn\.layers\.{i}\.block\.0", HEAD + f"layer_{3 - i}") for i in range(3)),
    *((rf"^fpn\.layers\.{i}\.block\.1", HEAD + f"layer_{3 - i}.norm") for i in range(3)),
    (r"^mask_projection", HEAD + "mask_features"),
    (r"^queries_embedder", HEAD + "predictor.query_embed"),
    (r"^input_projection", HEAD + "predictor.input_proj"),
    (r"^decoder\.layernorm", HEAD + "predictor.transformer.decoder.norm"),
    (r"^decoder\.", HEAD + "predictor.transformer.decoder."),
    (r"self_attn_layer_norm", "norm1"),
    (r"encoder_attn_layer_norm", "norm2"),
    (r"final_layer_norm", "norm3"),
    (r"encoder_attn\.", "multihead_attn."),
    (r"mlp\.fc", "linear"),
    (r"o_proj", "out_proj"),
]


def published_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in THEIRS:
            name = re.sub(pattern, replacement, name)
        if "q_proj." in name:
            value = torch.cat([value, *(state[original(state, value, part)] for part in ("k_proj", "v_proj"))])
            name = name.replace("q_proj.", "in_proj_")
        if "k_proj." not in name and "v_proj." not in name:
            renamed[name] = value
    return renamed


def original(state: Mapping[str, Tensor], query: Tensor, part: str) -> str:
    """Name of the key or value projection beside a query projection."""
    return next(name for name, value in state.items() if value is query).replace("q_proj", part)


@pytest.mark.parametrize("size", [(64, 96), (75, 130)], ids=str)
@torch.no_grad()
def test_equals_hugging_face(size: tuple[int, int]) -> None:
    hf = pytest.importorskip("transformers.models.maskformer.modeling_maskformer")
    detr = hf.MaskFormerDetrConfig(
        d_model=CHANNELS,
        decoder_layers=2,
        decoder_attention_heads=HEADS,
        decoder_ffn_dim=FEEDFORWARD,
        num_queries=QUERIES,
        dropout=0.0,
    )
    pixel = hf.MaskFormerPixelDecoder(
        SHAPES["res5"].channels, lateral_widths=[8, 16, 24], feature_size=CHANNELS, mask_feature_size=CHANNELS
    ).eval()
    transformer = hf.MaskFormerTransformerModule(
        SHAPES["res5"].channels, hf.MaskFormerConfig(decoder_config=detr.to_dict())
    ).eval()
    head = build_sem_seg_head(configuration(), SHAPES).eval()
    for module in (pixel, transformer, head):
        randomise(module)
    outputs = to_published({HEAD + name: value for name, value in head.state_dict().items() if "_embed." in name})
    load_published(head, outputs | published_names(pixel.state_dict()) | published_names(transformer.state_dict()))

    features = backbone_features(*size)
    mask_features = pixel(list(features.values())).last_hidden_state
    found = head(features)
    expected = transformer(features["res5"], output_hidden_states=True, return_dict=True)
    layers = [*found.aux, found]
    assert len(layers) == 2
    hidden = expected.last_hidden_state
    assert hidden.std() > 0.1 and mask_features.std() > 0.1
    torch.testing.assert_close(layers[-1].masks.mask_features.squeeze(2), mask_features, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(layers[-1].class_logits, head.predictor.class_embed(hidden), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(layers[-1].masks.mask_embed, head.predictor.mask_embed(hidden), atol=1e-4, rtol=1e-4)
    assert not torch.equal(layers[0].class_logits, layers[1].class_logits)


class PublishedTransformer(nn.Module):
    """DETR's encoder and decoder of PyTorch's layers, whose parameter names published files have."""

    def __init__(self, layers: int, *, decoder: bool, pre_norm: bool) -> None:
        super().__init__()
        arguments = (CHANNELS, HEADS, FEEDFORWARD, 0.0)
        self.pre_norm = pre_norm
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(nn.TransformerEncoderLayer(*arguments) for _ in range(layers))
        if pre_norm:
            self.encoder.norm = nn.LayerNorm(CHANNELS)
        if decoder:
            self.decoder = nn.Module()
            self.decoder.layers = nn.ModuleList(nn.TransformerDecoderLayer(*arguments) for _ in range(2))
            self.decoder.norm = nn.LayerNorm(CHANNELS)

    def _residual(self, x: Tensor, norm: nn.Module, function: object) -> Tensor:
        return x + function(norm(x)) if self.pre_norm else norm(x + function(x))

    def encode(self, x: Tensor, position: Tensor) -> Tensor:
        """[S, B, C]."""
        for layer in self.encoder.layers:
            x = self._residual(x, layer.norm1, lambda x, m=layer.self_attn: m(x + position, x + position, x)[0])
            x = self._residual(x, layer.norm2, lambda x, m=layer: m.linear2(F.relu(m.linear1(x))))
        return self.encoder.norm(x) if self.pre_norm else x

    def decode(self, query: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        x = torch.zeros_like(query)
        for layer in self.decoder.layers:
            x = self._residual(x, layer.norm1, lambda x, m=layer.self_attn: m(x + query, x + query, x)[0])
            x = self._residual(
                x, layer.norm2, lambda x, m=layer.multihead_attn: m(x + query, memory + position, memory)[0]
            )
            x = self._residual(x, layer.norm3, lambda x, m=layer: m.linear2(F.relu(m.linear1(x))))
        return self.decoder.norm(x)


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("feature", ["transformer_encoder", "res4", "pixel_embedding"])
@torch.no_grad()
def test_encoders_and_every_feature(feature: str, pre_norm: bool) -> None:
    """The pixel decoder's encoder and the decoder's own, in both orders of the norm."""
    cfg = configuration(
        PRE_NORM=pre_norm,
        ENC_LAYERS=1,
        ENFORCE_INPUT_PROJ=True,
        TRANSFORMER_IN_FEATURE=feature,
        HEAD_PIXEL_DECODER_NAME="TransformerEncoderPixelDecoder",
        HEAD_TRANSFORMER_ENC_LAYERS=2,
    )
    head = build_sem_seg_head(cfg, SHAPES).eval()
    pixel = PublishedTransformer(2, decoder=False, pre_norm=pre_norm)
    transformer = PublishedTransformer(1, decoder=True, pre_norm=pre_norm)
    for module in (pixel, transformer, head):
        randomise(module)
    published = to_published({HEAD + name: value for name, value in head.state_dict().items()})
    own = {HEAD + "pixel_decoder.transformer." + name: value for name, value in pixel.state_dict().items()}
    own |= {HEAD + "predictor.transformer." + name: value for name, value in transformer.state_dict().items()}
    assert {name for name in published if ".transformer." in name} == own.keys()
    load_published(head, published | own)

    features = backbone_features()
    found = head(features)
    decoder = head.pixel_decoder
    encoded = reference(pixel.encode, decoder.input_proj(features["res5"]), decoder.position_encoding)
    decoded = decoder(features)
    torch.testing.assert_close(decoded.encoded, encoded, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decoded.multi_scale_features[0], decoder.output_convs[0](encoded), atol=1e-4, rtol=1e-4)
    attended = {"transformer_encoder": encoded, "pixel_embedding": decoded.mask_features} | features
    x = head.predictor.input_proj(attended[feature])
    memory = reference(transformer.encode, x, head.predictor.position_encoding).flatten(2).permute(2, 0, 1)
    position = head.predictor.position_encoding(tuple(x.shape[-2:])).flatten(1).T[:, None]
    query = head.predictor.query_embed.weight[:, None].expand(-1, 2, -1)
    hidden = transformer.decode(query, memory, position).transpose(0, 1)
    torch.testing.assert_close(found.class_logits, head.predictor.class_embed(hidden), atol=1e-4, rtol=1e-4)


def reference(encode: object, x: Tensor, position_encoding: nn.Module) -> Tensor:
    """Run an encoder of [S, B, C] over [B, C, H, W]."""
    position = position_encoding(tuple(x.shape[-2:])).flatten(1).T[:, None]
    encoded = encode(x.flatten(2).permute(2, 0, 1), position)
    return encoded.permute(1, 2, 0).unflatten(2, tuple(x.shape[-2:]))


def test_names_and_shapes_of_the_pyramid() -> None:
    """As the published system names them: from the finest level and from 1, the coarsest without an adapter."""
    head = build_sem_seg_head(configuration(), SHAPES)
    state = head.state_dict()
    published = to_published({HEAD + name: value for name, value in state.items()})
    prefix = HEAD + "pixel_decoder."
    pyramid = {name.removeprefix(prefix): list(x.shape) for name, x in published.items() if name.startswith(prefix)}
    expected = {"mask_features.weight": [CHANNELS, CHANNELS, 3, 3], "mask_features.bias": [CHANNELS]}
    for level, shape in enumerate(SHAPES.values(), start=1):
        inner = shape.channels if level == 4 else CHANNELS
        expected[f"layer_{level}.weight"] = [CHANNELS, inner, 3, 3]
        convolutions = [f"layer_{level}"]
        if level < 4:
            expected[f"adapter_{level}.weight"] = [CHANNELS, shape.channels, 1, 1]
            convolutions.append(f"adapter_{level}")
        expected |= {f"{name}.norm.{kind}": [CHANNELS] for name in convolutions for kind in ("weight", "bias")}
    assert pyramid == expected
    back = from_published(published)
    assert back.keys() == {HEAD + name for name in state}
    assert all(torch.equal(back[HEAD + name], value) for name, value in state.items())


def test_masked_decoder_over_a_plain_pyramid() -> None:
    """Mask2Former's decoder attends to three levels of any pixel decoder."""
    cfg = configuration(
        TRANSFORMER_DECODER_NAME="MultiScaleMaskedTransformerDecoder",
        TRANSFORMER_IN_FEATURE="multi_scale_pixel_decoder",
    )
    prediction = build_sem_seg_head(cfg, SHAPES)(backbone_features())
    assert prediction.class_logits.shape == (2, QUERIES, CLASSES + 1)
    assert prediction.masks.logits().shape == (2, QUERIES, 1, 16, 24)


def test_dropout_acts_on_attention_in_training_only() -> None:
    head = build_sem_seg_head(configuration(DROPOUT=0.5), SHAPES)
    features = backbone_features()
    attention = head.predictor.decoder_layers[0].cross_attention.attention
    x = torch.randn(1, 5, CHANNELS)
    assert not torch.equal(attention(x, x, x), attention(x, x, x))
    assert not torch.equal(head(features).class_logits, head(features).class_logits)
    head.eval()
    assert torch.equal(head(features).class_logits, head(features).class_logits)


def test_clips_are_attended_to_as_a_whole() -> None:
    head = build_sem_seg_head(configuration(), SHAPES).eval()
    prediction = head(backbone_features(), num_frames=2)
    assert prediction.class_logits.shape == (1, QUERIES, CLASSES + 1)
    assert prediction.masks.logits().shape == (1, QUERIES, 2, 16, 24)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"TRANSFORMER_IN_FEATURE": "multi_scale_pixel_decoder"}, "StandardTransformerDecoder, which attends to one"),
        ({"TRANSFORMER_DECODER_NAME": "MultiScaleMaskedTransformerDecoder"}, "but .*TRANSFORMER_IN_FEATURE is 'res5'"),
        ({"TRANSFORMER_IN_FEATURE": "res7"}, "choose one of .*pixel_embedding, res2"),
        ({"DEC_LAYERS": 0}, "predicts after each layer"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_sem_seg_head(configuration(**changes), SHAPES)


def test_encoder_that_is_not_there() -> None:
    head = build_sem_seg_head(configuration(TRANSFORMER_IN_FEATURE="transformer_encoder"), SHAPES)
    with pytest.raises(ValueError, match="has no encoder"):
        head(backbone_features())
