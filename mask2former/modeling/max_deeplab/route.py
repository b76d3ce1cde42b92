"""The way of MaX-DeepLab's pixels through its stages: which strides the stacked decoder visits, and what each adds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_ROUND, _LAST = (8, 4, 8, 16), (8, 4)
COARSEST = 16


class Stop(NamedTuple):
    """A stage of the decoder.

    Attributes:
        name: published name, "decoder_stage3", of which those that are not pre-trained end in "_extra".
        stride: of its result.
        before: stride of the current feature that comes in.
        others: names of the earlier stages of this stride whose results are added; none: there is no junction.
    """

    name: str
    stride: int
    before: int
    others: list[str]


def route(pretrained_rounds: int, new_rounds: int) -> Iterator[Stop]:
    """Yield the stages after "stage5", in order.

    A round goes to strides 8, 4, 8 and 16, and the way ends at 8 and 4. The current feature is joined by the last two
    kept results of the wanted stride. The pre-trained part ends in more blocks at stride 16, without a junction, whose
    result is kept in the place of the one before.
    """
    kept: dict[int, list[str]] = {4: ["stage2"], 8: ["stage3"], COARSEST: ["stage5"]}
    current, last = COARSEST, "stage5"
    pretrained = len(_ROUND) * pretrained_rounds
    for index, stride in enumerate(_ROUND * (pretrained_rounds + new_rounds) + _LAST):
        if index == pretrained:
            kept[COARSEST][-1] = f"{last}_extra"
            yield Stop(f"{last}_extra", COARSEST, COARSEST, [])
        last = f"decoder_stage{index + 1}" + ("" if index < pretrained else "_extra")
        yield Stop(last, stride, current, kept[stride][-2:])
        kept[stride].append(last)
        current = stride
