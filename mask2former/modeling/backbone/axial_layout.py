"""The stages of an axial ResNet with its decoder, as a list that says all about each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from mask2former.modeling.backbone.axial_blocks import KINDS

COARSEST = 16


@dataclass(frozen=True)
class StageLayout:
    """One stage.

    Attributes:
        name: "stage2", "decoder_stage1", "decoder_stage1_extra" ...; "extra" stages are not pre-trained.
        stride: of its output, in pixels.
        channels: of its output.
        kinds: of its blocks, see :data:`~mask2former.modeling.backbone.axial_blocks.KINDS`.
        first_stride: of its first block.
        inputs: stages whose outputs are added, the stage before first; empty: that stage alone.
        dual_path: each block is followed by a dual-path block.
        drop_path: of each block, and of the dual-path block after it.
    """

    name: str
    stride: int
    channels: int
    kinds: tuple[str, ...]
    first_stride: int = 1
    inputs: tuple[str, ...] = ()
    dual_path: bool = False
    drop_path: tuple[float, ...] = field(default=())

    @property
    def is_extra(self) -> bool:
        """Tell whether the stage is trained from scratch, when the others come from a classifier."""
        return self.name.endswith("_extra")


def drop_path_of(stride: int, *, greatest: float, from_stride: int, schedule: str) -> float:
    """Return the probability for a block whose input has a stride in a plain ResNet, where the last stage has 32."""
    if stride < from_stride:
        return 0.0
    return greatest if schedule == "constant" else greatest * (math.log2(stride) - 1) / 4


@dataclass(frozen=True)
class AxialLayout:
    """What the stages are made from; the keys below ``MODEL.MAX_DEEPLAB`` have the same names.

    Raises:
        ValueError: counts that do not fit, an unknown kind or schedule, or a stride that the decoder does not have.
    """

    blocks: Sequence[int]
    channels: Sequence[int]
    convolutions: str
    axial: bool = True
    decoder_strides: Sequence[int] = ()
    decoder_blocks: int = 1
    extra_blocks: int = 0
    extra_decoder_strides: Sequence[int] = ()
    extra_decoder_blocks: int = 1
    dual_path_from_stage: int = 6
    drop_path: float = 0.0
    drop_path_from_stride: int = 16
    drop_path_schedule: str = "linear"

    def __post_init__(self) -> None:
        key = "MODEL.MAX_DEEPLAB"
        if len(self.blocks) != 5 or len(self.channels) != 5 or min(self.blocks[1:]) < 1 or self.blocks[0] < 0:
            raise ValueError(
                f"{key}.BLOCKS {list(self.blocks)} and CHANNELS {list(self.channels)} need five numbers each, for "
                "strides 2, 4, 8, 16 and 16; only the first may be 0."
            )
        if self.convolutions not in KINDS[:2]:
            raise ValueError(f"{key}.CONVOLUTIONS is {self.convolutions!r}; choose from {', '.join(KINDS[:2])}.")
        if self.drop_path_schedule not in ("linear", "constant"):
            raise ValueError(f"{key}.DROP_PATH_SCHEDULE is {self.drop_path_schedule!r}; choose linear or constant.")
        if self.dual_path_from_stage < 4:
            raise ValueError(f"{key}.DUAL_PATH_FROM_STAGE is {self.dual_path_from_stage}; choose 4 or 5.")
        if unknown := sorted({*self.decoder_strides, *self.extra_decoder_strides} - {4, 8, 16}):
            raise ValueError(f"{key}: DECODER_STRIDES and EXTRA_DECODER_STRIDES take 4, 8 and 16; found {unknown}.")

    def encoder(self) -> list[StageLayout]:
        """Return stages 1 to 5."""
        stages, before = [], 2
        for number, (stride, count, channels) in enumerate(
            zip((2, 4, 8, 16, 16), self.blocks, self.channels, strict=True), 1
        ):
            if not count:
                continue
            first_stride = stride // before
            if number == 1:
                first_stride = 1
            axial = stride == COARSEST and self.axial
            kinds = ["axial" if axial else self.convolutions] * count
            if first_stride > 1:
                kinds[0] = self.convolutions  # its input has the finer stride, at which attention is dear
            plain = 2 ** (number - 1) if number > 1 else 2
            drops = [self._drop(plain)] + [self._drop(2**number)] * (count - 1)
            dual_path = number >= self.dual_path_from_stage
            stages.append(
                StageLayout(f"stage{number}", stride, channels, tuple(kinds), first_stride, (), dual_path, tuple(drops))
            )
            before = stride
        return stages

    def whole(self) -> list[StageLayout]:
        """Return the encoder's stages and the decoder's."""
        stages = self.encoder()
        kept = {stage.stride: [stage.name] for stage in stages}  # the last encoder output alone at stride 16
        number, last = 0, stages[-1].name

        def decode(strides: Sequence[int], count: int, suffix: str) -> None:
            nonlocal number, last
            for stride in strides:
                number += 1
                name = f"decoder_stage{number}{suffix}"
                stages.append(self._late(name, stride, count, (last, *kept[stride][-2:])))
                kept[stride].append(name)
                last = name

        decode(self.decoder_strides, self.decoder_blocks, "")
        if self.extra_blocks:
            if stages[-1].stride != COARSEST:
                raise ValueError(
                    f"MODEL.MAX_DEEPLAB.EXTRA_BLOCKS is {self.extra_blocks}, but DECODER_STRIDES "
                    f"{list(self.decoder_strides)} do not end at 16; these blocks are at stride 16."
                )
            stages.append(self._late(f"{last}_extra", COARSEST, self.extra_blocks, ()))
            kept[COARSEST][-1] = last = stages[-1].name
        decode(self.extra_decoder_strides, self.extra_decoder_blocks, "_extra")
        return stages

    def _late(self, name: str, stride: int, count: int, inputs: tuple[str, ...]) -> StageLayout:
        coarse = stride == COARSEST
        channels = {4: self.channels[1], 8: self.channels[2], 16: self.channels[4]}[stride]
        kinds = ("axial" if coarse and self.axial else self.convolutions,) * count
        drops = (self._drop(32 if coarse else stride),) * count
        return StageLayout(name, stride, channels, kinds, 1, inputs, coarse and self.dual_path_from_stage <= 5, drops)

    def _drop(self, stride: int) -> float:
        return drop_path_of(
            stride, greatest=self.drop_path, from_stride=self.drop_path_from_stride, schedule=self.drop_path_schedule
        )
