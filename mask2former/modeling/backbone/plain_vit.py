"""Plain vision transformer (ViT, arXiv 2010.11929): AugReg's, DINOv2's and DINOv3's, for images of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from mask2former.modeling.backbone.vit_block import Rotation, ViTBlock, rotation_of
from mask2former.modeling.layers.position_table import resized_table

_ROTARY_BASE = 100.0
_ROTARY_SCALES = (0.5, 2.0)  # in training, coordinates are scaled by a random factor in this range, as DINOv3 does


class PatchEmbedding(nn.Module):
    """Patches to tokens, by a convolution as wide as its stride."""

    def __init__(self, in_channels: int, channels: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images [B, 3, H, W] as [B, C, H / patch, W / patch]."""
        return self.proj(images)


@BACKBONE_REGISTRY.register()
class PlainViT(Backbone):
    """Plain vision transformer. A feature "block7" is the patches after block 7, counted from 0: [B, C, h, w].

    A model may also run the parts itself: :meth:`embed`, ``blocks``, ``norm``.

    Args:
        in_channels: channels of the images.
        image_size: side, in pixels, of the square whose grid the position table is for. It is resized (bicubic) for
            other sizes.
        patch_size: pixels.
        embed_dim: C.
        depth, num_heads, mlp_hidden: of the blocks.
        class_token, num_registers: tokens before the patches (registers: arXiv 2309.16588).
        positions: "table", learnt for each patch, or "rotary" (:func:`rotation_of`).
        layer_scale, gated, key_bias: see :class:`ViTBlock`.
        final_norm: has a ``norm`` after the last block; features of blocks do not pass it.
        drop_path_rate: stochastic depth of the last block, to which the others rise from 0.
        drop_path_on: "both" branches, or "mlp" alone.
        out_blocks: blocks whose patches are features.
        layer_decay: block i of n learns at the rate times this to the power of n - 1 - i, embeddings as block 0.
        full_rate_blocks: the last blocks, which learn at the whole rate all the same.
        shrink_block: block in which patches of even rows and columns alone ask, and alone are left (query
            down-sampling, SegViT, arXiv 2210.05844, section 3.3): from there on the grid is halved. -1: none.

    Raises:
        ValueError: unknown settings, blocks that do not exist, or rotary positions with ``shrink_block``.
    """

    checkpoint_layers = (ViTBlock,)

    @configurable
    def __init__(
        self,
        *,
        in_channels: int = 3,
        image_size: int,
        patch_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_hidden: int,
        class_token: bool,
        num_registers: int,
        positions: str,
        layer_scale: float = 0.0,
        gated: bool = False,
        key_bias: bool = True,
        final_norm: bool = True,
        drop_path_rate: float = 0.0,
        drop_path_on: str = "both",
        out_blocks: Sequence[int] = (),
        layer_decay: float = 1.0,
        full_rate_blocks: int = 0,
        shrink_block: int = -1,
    ) -> None:
        super().__init__()
        for name, value, choice in (
            ("POSITIONS", positions, ("table", "rotary")),
            ("DROP_PATH_ON", drop_path_on, ("both", "mlp")),
        ):
            if value not in choice:
                raise ValueError(f"MODEL.VIT.{name} is {value!r}; choose one of {', '.join(choice)}.")
        if wrong := [block for block in out_blocks if not 0 <= block < depth]:
            raise ValueError(f"MODEL.VIT.OUT_BLOCKS names {wrong}; the blocks of MODEL.VIT.DEPTH are 0 to {depth - 1}.")
        if not -1 <= shrink_block < depth or (shrink_block >= 0 and positions == "rotary"):
            raise ValueError(
                f"MODEL.VIT.SHRINK_BLOCK is {shrink_block}; it has to be -1 (none), or a block below MODEL.VIT.DEPTH "
                f"({depth}) of a ViT with MODEL.VIT.POSITIONS table, found {positions}."
            )
        parts = 4 if positions == "rotary" else 1  # of a head: sine and cosine of rows and of columns
        if num_heads < 1 or embed_dim % (parts * num_heads):
            raise ValueError(
                f"MODEL.VIT.EMBED_DIM is {embed_dim}; with MODEL.VIT.NUM_HEADS {num_heads} and MODEL.VIT.POSITIONS "
                f"{positions} it has to be a multiple of {parts * max(num_heads, 1)}."
            )
        if image_size % patch_size:
            raise ValueError(
                f"MODEL.VIT.IMAGE_SIZE is {image_size}; it has to be a multiple of MODEL.VIT.PATCH_SIZE ({patch_size})."
            )
        if not 0 <= full_rate_blocks <= depth:
            raise ValueError(
                f"MODEL.VIT.FULL_RATE_BLOCKS is {full_rate_blocks}; it has to be from 0 to MODEL.VIT.DEPTH ({depth})."
            )
        self.patch_size, self.embed_dim = patch_size, embed_dim
        self.layer_decay, self.full_rate_blocks = layer_decay, full_rate_blocks
        self.head_dim = embed_dim // num_heads
        self.out_blocks = tuple(out_blocks)
        self.shrink_block = shrink_block
        self.patch_embed = PatchEmbedding(in_channels, embed_dim, patch_size)
        if class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        if num_registers:
            self.reg_token = nn.Parameter(torch.zeros(1, num_registers, embed_dim))
        self.num_prefix_tokens = int(class_token) + num_registers
        self.rotary = positions == "rotary"
        if not self.rotary:
            self.pos_embed = nn.Parameter(torch.zeros(1, (image_size // patch_size) ** 2, embed_dim))
        rates = [drop_path_rate * index / max(depth - 1, 1) for index in range(depth)]
        self.blocks = nn.ModuleList(
            ViTBlock(
                embed_dim,
                num_heads=num_heads,
                hidden=mlp_hidden,
                layer_scale=layer_scale,
                gated=gated,
                key_bias=key_bias,
                drop_path=rate,
                drop_path_on=drop_path_on,
            )
            for rate in rates
        )
        self.norm = nn.LayerNorm(embed_dim, 1e-6) if final_norm else nn.Identity()
        self.apply(_initialise)
        for name in ("cls_token", "reg_token", "pos_embed"):
            if hasattr(self, name):
                nn.init.trunc_normal_(getattr(self, name), std=0.02)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.VIT
        return {
            "in_channels": input_shape.channels,
            "image_size": node.IMAGE_SIZE,
            "patch_size": node.PATCH_SIZE,
            "embed_dim": node.EMBED_DIM,
            "depth": node.DEPTH,
            "num_heads": node.NUM_HEADS,
            "mlp_hidden": round(node.EMBED_DIM * node.MLP_RATIO),
            "class_token": node.CLASS_TOKEN,
            "num_registers": node.NUM_REGISTERS,
            "positions": node.POSITIONS,
            "layer_scale": node.LAYER_SCALE,
            "gated": node.GATED,
            "key_bias": node.KEY_BIAS,
            "final_norm": node.FINAL_NORM,
            "drop_path_rate": node.DROP_PATH_RATE,
            "drop_path_on": node.DROP_PATH_ON,
            "out_blocks": node.OUT_BLOCKS,
            "layer_decay": node.LAYER_DECAY,
            "full_rate_blocks": node.FULL_RATE_BLOCKS,
            "shrink_block": node.SHRINK_BLOCK,
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the features of ``out_blocks`` by name, [B, C, h, w], from images [B, 3, H, W]."""
        x, grid = self.embed(images)
        rotation = self.rotation(grid, x.device)
        features = {}
        for index, block in enumerate(self.blocks[: 1 + max(self.out_blocks, default=-1)]):
            if index == self.shrink_block:
                asking, grid = self.shrunk(grid, x.device)
                x = block(x, rotation, None, asking)
            else:
                x = block(x, rotation)
            if index in self.out_blocks:
                features[f"block{index}"] = self.patches(x, grid)
        return features

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Turn images [B, 3, H, W] into tokens [B, prefix + h w, C], and return the grid (h, w).

        Raises:
            ValueError: a side is no multiple of the patch's.
        """
        # `torch.jit.trace` makes sizes tensors; `torch.export` makes them symbols, which `int` would fix.
        height, width = (int(side) if isinstance(side, Tensor) else side for side in images.shape[-2:])
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"PlainViT needs sides that are multiples of {self.patch_size} pixels, found {height}x{width}; "
                f"MODEL.MASK_FORMER.SIZE_DIVISIBILITY {self.patch_size} (or 0) pads images to that."
            )
        x = self.patch_embed(images)
        grid = (height // self.patch_size, width // self.patch_size)
        x = x.flatten(2).transpose(1, 2)
        if not self.rotary:
            x = x + self.table(grid)
        prefix = [getattr(self, name) for name in ("cls_token", "reg_token") if hasattr(self, name)]
        return torch.cat([*(token.expand(x.shape[0], -1, -1) for token in prefix), x], dim=1), grid

    def table(self, grid: tuple[int, int]) -> Tensor:
        """Return the position table for a grid, [1, h w, C]."""
        return resized_table(self.pos_embed, grid)

    def rotation(self, grid: tuple[int, int], device: torch.device) -> Rotation | None:
        """Return the rotary positions of a grid, in training with coordinates of a random scale; None for a table."""
        if not self.rotary:
            return None
        scale = 1.0
        if self.training:
            least, most = _ROTARY_SCALES
            scale = float(least * (most / least) ** torch.rand(()))
        return rotation_of(grid, self.head_dim, base=_ROTARY_BASE, scale=scale, device=device)

    def shrunk(self, grid: tuple[int, int], device: torch.device) -> tuple[Tensor, tuple[int, int]]:
        """Return the tokens that are left where the grid is halved, int64 [n], and the new grid."""
        rows, columns = (torch.arange(0, side, 2, device=device) for side in grid)
        patches = (rows[:, None] * grid[1] + columns).flatten() + self.num_prefix_tokens
        left = ((grid[0] + 1) // 2, (grid[1] + 1) // 2)  # by arithmetic, because `torch.export` has symbols here
        return torch.cat([torch.arange(self.num_prefix_tokens, device=device), patches]), left

    def patches(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the patches of tokens [B, ..., C], which are the last ones, as [B, C, h, w]."""
        return x[:, x.shape[1] - grid[0] * grid[1] :].transpose(1, 2).unflatten(2, grid)

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            f"block{index}": ShapeSpec(
                channels=self.embed_dim, stride=self.patch_size * (2 if 0 <= self.shrink_block <= index else 1)
            )
            for index in self.out_blocks
        }

    @property
    def size_divisibility(self) -> int:
        return self.patch_size * (1 if self.shrink_block < 0 else 2)

    def lr_scale(self, parameter_name: str) -> float:
        """Return the factor on the rate of one of this module's parameters: layer-wise decay."""
        part, *rest = parameter_name.split(".")
        if part == "norm":
            return 1.0
        block = int(rest[0]) if part == "blocks" else 0
        if part == "blocks" and block >= len(self.blocks) - self.full_rate_blocks:
            return 1.0
        return float(self.layer_decay ** (len(self.blocks) - 1 - block))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
