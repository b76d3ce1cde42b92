"""What became of a file's weights in a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]
# Parts of the model that another number of something changes.
_HEADS = {
    "classes": ("predictor.class_embed.", "sem_seg_head.predictor.weight", "sem_seg_head.predictor.bias"),
    "queries": ("predictor.query_feat.", "predictor.query_embed."),
}
_SHOWN = 8


@dataclass(frozen=True)
class LoadReport:
    """What was matched and what was not.

    Attributes:
        format: of the file.
        matched: number of the model's parameters and buffers that the file gave.
        total: number of them.
        reshaped: (name, shape in the file, shape in the model) of those that keep their initial values because the
            shapes differ.
        missing: names of those that keep their initial values because the file lacks them.
        left_over: names in the file that the model lacks.
    """

    format: str
    matched: int
    total: int
    reshaped: Sequence[tuple[str, Shape, Shape]]
    missing: Sequence[str]
    left_over: Sequence[str]

    @property
    def foreign(self) -> list[tuple[str, Shape, Shape]]:
        """Those of ``reshaped`` that no other number of classes or queries explains: it is another network."""
        known = tuple(part for parts in _HEADS.values() for part in parts)
        return [row for row in self.reshaped if not any(part in row[0] for part in known)]

    def lines(self) -> list[str]:
        """For people: first what was matched, then what was not."""
        result = [f"Weights (format: {self.format}): {self.matched} of {self.total} parameters and buffers matched."]
        for what, parts in _HEADS.items():
            rows = [row for row in self.reshaped if any(part in row[0] for part in parts)]
            if rows:
                _, theirs, ours = rows[0]
                names = ", ".join(name for name, *_ in rows)
                less = 1 if "class_embed" in names else 0  # "no object"
                result.append(
                    f"Another number of {what}, {theirs[0] - less} in the file and {ours[0] - less} in the model: "
                    f"re-initialised, to be trained: {names}. The rest is kept."
                )
        if self.foreign:
            foreign = [f"{name} {theirs} in the file, {ours} in the model" for name, theirs, ours in self.foreign]
            result.append(f"Of another shape, so not loaded; is it the same network? {_some(foreign)}")
        if self.missing:
            result.append(f"Not in the file, so left as initialised: {_some(self.missing)}")
        if self.left_over:
            result.append(f"Left over, in the file only: {_some(self.left_over)}")
        return result


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)}: " + "; ".join(names[:_SHOWN]) + more
