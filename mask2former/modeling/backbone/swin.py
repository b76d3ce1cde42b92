"""Swin Transformer backbone (arXiv 2103.14030). Parameters have their published names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.activation_checkpoint import checkpoint_activations
from mask2former.modeling.backbone.swin_stages import PatchEmbedding, SwinBlock, SwinStage

_FIRST_FEATURE = 2  # stage i gives "res{i + 2}"


@BACKBONE_REGISTRY.register()
class D2SwinTransformer(Backbone):
    """Swin Transformer for images of any size.

    Windows are shifted at every resolution, even where one window covers the whole map: the published detection and
    segmentation models were trained so, unlike those for classification.

    Args:
        in_channels: channels of the images.
        patch_size: side of a patch, in pixels.
        embed_dim: channels of the first stage; each later stage doubles them.
        depths, num_heads: blocks, and attention heads, of each stage.
        window_size: side of a window, in patches.
        mlp_ratio: hidden channels of the feed-forward networks relative to their input's.
        qkv_bias, qk_scale: see :class:`mask2former.modeling.layers.window_attention.WindowAttention`.
        drop_rate, attn_drop_rate: dropout rates.
        drop_path_rate: stochastic depth of the last block; earlier ones grow to it linearly from 0.
        absolute_position: image side, in pixels, of the learnt absolute position embedding, which is resized
            bicubically for other sizes. None: no such embedding.
        patch_norm: normalise the patch embedding.
        out_features: names from "res2" on, one for each stage. Stages after the last of them are not built.
        use_checkpoint: recompute activations in the backward pass, to save memory; ``MODEL.CHECKPOINT`` does the same.

    Raises:
        ValueError: no features or an unknown one, or depths and heads for different numbers of stages.
    """

    checkpoint_layers = (SwinBlock,)

    @configurable
    def __init__(
        self,
        *,
        in_channels: int = 3,
        patch_size: int = 4,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        absolute_position: int | None = None,
        patch_norm: bool = True,
        out_features: Sequence[str] = ("res2", "res3", "res4", "res5"),
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if len(depths) != len(num_heads):
            raise ValueError(
                f"Swin needs a number of heads for each stage; found {len(depths)} depths, {len(num_heads)} heads."
            )
        names = [f"res{index + _FIRST_FEATURE}" for index in range(len(depths))]
        if not out_features or (unknown := sorted(set(out_features) - set(names))):
            raise ValueError(f"Swin's features are {names}; found {unknown if out_features else 'none'} to give.")
        names = names[: 1 + max(map(names.index, out_features))]
        self._out_features = [name for name in names if name in out_features]
        self._out_feature_channels = {name: embed_dim * 2**index for index, name in enumerate(names)}
        self._out_feature_strides = {name: patch_size * 2**index for index, name in enumerate(names)}
        self._size_divisibility = patch_size * 2 ** (len(depths) - 1)

        self.patch_embed = PatchEmbedding(in_channels, embed_dim, patch=patch_size, norm=patch_norm)
        if absolute_position is not None:
            side = absolute_position // patch_size
            self.absolute_pos_embed = nn.Parameter(torch.empty(1, embed_dim, side, side))
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        self.dropout = nn.Dropout(drop_rate)
        drop_paths = torch.linspace(0, drop_path_rate, sum(depths)).split(list(depths))
        self.layers = nn.ModuleList(
            SwinStage(
                self._out_feature_channels[name],
                window=window_size,
                drop_paths=rates.tolist(),
                downsample=name != names[-1],
                num_heads=heads,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                dropout=drop_rate,
                attention_dropout=attn_drop_rate,
            )
            for name, rates, heads in zip(names, drop_paths, num_heads, strict=False)
        )
        for index, name in enumerate(names):
            if name in out_features:
                self.add_module(f"norm{index}", nn.LayerNorm(self._out_feature_channels[name]))
        self.apply(_init_linear)
        if use_checkpoint:
            checkpoint_activations(["backbone"], {"backbone": self})

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        swin = cfg.MODEL.SWIN
        return {
            "in_channels": input_shape.channels,
            "patch_size": swin.PATCH_SIZE,
            "embed_dim": swin.EMBED_DIM,
            "depths": swin.DEPTHS,
            "num_heads": swin.NUM_HEADS,
            "window_size": swin.WINDOW_SIZE,
            "mlp_ratio": swin.MLP_RATIO,
            "qkv_bias": swin.QKV_BIAS,
            "qk_scale": swin.QK_SCALE,
            "drop_rate": swin.DROP_RATE,
            "attn_drop_rate": swin.ATTN_DROP_RATE,
            "drop_path_rate": swin.DROP_PATH_RATE,
            "absolute_position": swin.PRETRAIN_IMG_SIZE if swin.APE else None,
            "patch_norm": swin.PATCH_NORM,
            "out_features": swin.OUT_FEATURES,
            "use_checkpoint": swin.USE_CHECKPOINT,
        }

    @property
    def size_divisibility(self) -> int:
        """Multiple, in pixels, at which all strides are exact. Other sizes work too: features are then rounded up."""
        return self._size_divisibility

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute features [B, C, H / stride, W / stride] by name from normalised images [B, 3, H, W]."""
        x = self.patch_embed(x)
        if hasattr(self, "absolute_pos_embed"):
            embed: Tensor = self.absolute_pos_embed
            if embed.shape[-2:] != x.shape[1:3]:
                embed = F.interpolate(embed, size=x.shape[1:3], mode="bicubic", align_corners=False)
            x = x + embed.permute(0, 2, 3, 1)
        x = self.dropout(x)
        features = {}
        for index, stage in enumerate(self.layers):
            feature, x = stage(x)
            name = f"res{index + _FIRST_FEATURE}"
            if name in self._out_features:
                norm: nn.Module = getattr(self, f"norm{index}")
                normed = norm(feature).permute(0, 3, 1, 2)
                # On a CPU convolutions are fastest with the channels-last layout that this already has.
                features[name] = normed if normed.device.type == "cpu" else normed.contiguous()
        return features


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
