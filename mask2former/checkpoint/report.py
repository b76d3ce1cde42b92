"""Report of which weights of a file a model takes, and when that is an error.

A network with a random part still gives results, so weights are refused unless the user seems to want that. The parts
are the backbone, the pixel decoder and the predictor (the transformer decoder). It is an error if

1. nothing fits the model; or
2. nothing fits a part, although the file has names of that part: it holds another network; or
3. nothing fits a part, although the file holds a whole model: its names are the published ones or Hugging Face's; or
   it fills a part of the head, and either the backbone too, or has names that the model lacks (half renamed).

So a backbone alone is accepted (ImageNet's, or a detector's with its other parts), and so is the head or a part of it:
``load_state_dict({...}, strict=False)``. Parts that a subclass adds are not checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]
BACKBONE, PIXEL_DECODER, PREDICTOR = "backbone.", "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
PARTS = (BACKBONE, PIXEL_DECODER, PREDICTOR)
WHOLE_MODELS = ("published", "Hugging Face", "kMaX-DeepLab")  # formats that only whole models have
# Parameters whose shape depends on the number of something.
_HEADS = {
    "classes": (
        "predictor.class_embed.",
        "sem_seg_head.predictor.weight",
        "sem_seg_head.predictor.bias",
        "._transformer_class_head.conv.",
        "._auxiliary_semantic_predictor.final_conv.conv.",
        "._auxiliary_semantic_predictor.2.conv.",
        "sem_seg_head.semantic.final_conv.conv.",
    ),
    "queries": ("predictor.query_feat.", "predictor.query_embed."),
}
_SHOWN = 8


@dataclass(frozen=True)
class LoadReport:
    """Weights that were matched, and those that were not.

    Attributes:
        format: format of the file.
        matched: number of the model's parameters and buffers that the file fills.
        total: number of the model's parameters and buffers, without counts of training steps.
        reshaped: (name, shape in the file, shape in the model) where the shapes differ.
        missing: names of the model's that the file lacks.
        left_over: names in the file that the model lacks.
        empty: :data:`PARTS` of the model of which the file fills nothing.
        named: :data:`PARTS` of which the file has names, whether they fit or not.
    """

    format: str
    matched: int
    total: int
    reshaped: Sequence[tuple[str, Shape, Shape]]
    missing: Sequence[str]
    left_over: Sequence[str]
    empty: Sequence[str] = ()
    named: Sequence[str] = ()

    @property
    def resized(self) -> list[tuple[str, Shape, Shape]]:
        """Rows of ``reshaped`` that another number of classes or queries explains."""
        return [row for parts in _HEADS.values() for row in self._rows(parts)]

    @property
    def foreign(self) -> list[tuple[str, Shape, Shape]]:
        """Rows of ``reshaped`` that it does not explain: the file holds another network."""
        resized = self.resized
        return [row for row in self.reshaped if row not in resized]

    def check(self) -> None:
        """Refuse weights by the rules at the top of this module.

        Raises:
            ValueError: nothing fits the model or a part of it; the message names the part and what the file holds.
        """
        others = " ".join(self.lines()[1:])
        if not self.matched and self.total:
            raise ValueError(f"Nothing in the file fits the model. {others}")
        filled = set(self.named) - set(self.empty)
        fills_head = bool(filled - {BACKBONE})
        whole = self.format in WHOLE_MODELS or (fills_head and (BACKBONE in filled or bool(self.left_over)))
        if refused := [part for part in self.empty if whole or part in self.named]:
            raise ValueError(
                f"The weights (format: {self.format}) have nothing that fits {' and '.join(_spelled(refused))}, which "
                f"would stay random. {others} To load only some parts, load each one by itself, such as with "
                "model.backbone.load_state_dict(...)."
            )

    def lines(self) -> list[str]:
        """Return lines for the log: first what was matched, then what was not."""
        result = [f"Weights (format: {self.format}): {self.matched} of {self.total} parameters and buffers matched."]
        result += self.resized_lines()
        if self.foreign:
            foreign = [f"{name} {theirs} in the file, {ours} in the model" for name, theirs, ours in self.foreign]
            result.append(f"Not loaded, because the shapes differ; is it the same network? {_some(foreign)}")
        if self.missing:
            result.append(f"Not in the file, so left as initialised: {_some(self.missing)}")
        if self.left_over:
            result.append(f"Only in the file, so not used: {_some(self.left_over)}")
        return result

    def resized_lines(self) -> list[str]:
        """Return lines for the log on what stays as initialised because the number of classes or queries differs."""
        result = []
        for what, parts in _HEADS.items():
            if rows := self._rows(parts):
                _, theirs, ours = rows[0]
                names = ", ".join(name for name, *_ in rows)
                less = 1 if "class_embed" in names or "class_head" in names else 0  # "no object"
                result.append(
                    f"The number of {what} differs, {theirs[0] - less} in the file and {ours[0] - less} in the model, "
                    f"so these are re-initialised and have to be trained: {names}. The rest is kept."
                )
        return result

    def _rows(self, parts: Sequence[str]) -> list[tuple[str, Shape, Shape]]:
        return [row for row in self.reshaped if any(part in row[0] for part in parts) and row[1][1:] == row[2][1:]]


def compare(format: str, state: Mapping[str, Any], model: Mapping[str, Any]) -> LoadReport:
    """Report which weights a model will take, before they are loaded.

    Args:
        format: format of the weights, for the report.
        state: weights under the model's names.
        model: the model's own ``state_dict()``, or a part's under its names in the whole model.
    """
    # The count of training steps is never read, and weights of frozen normalisation lack it.
    wanted = [name for name in model if not name.endswith("num_batches_tracked")]
    shapes = {name: (_shape(state[name]), _shape(model[name])) for name in state if name in model}
    reshaped = [(name, *both) for name, both in shapes.items() if both[0] != both[1]]
    fits = {name for name in wanted if name in shapes and shapes[name][0] == shapes[name][1]}
    return LoadReport(
        format=format,
        matched=len(fits),
        total=len(wanted),
        reshaped=reshaped,
        missing=[name for name in wanted if name not in shapes],
        left_over=[name for name in state if name not in model],
        empty=[part for part in PARTS if _has(wanted, part) and not _has(fits, part)],
        named=[part for part in PARTS if _has(state, part)],
    )


def _shape(value: Any) -> Shape:
    return tuple(getattr(value, "shape", ()))


def _has(names: Any, part: str) -> bool:
    return any(name.startswith(part) for name in names)


def _spelled(parts: Sequence[str]) -> list[str]:
    return [part.removesuffix(".") for part in parts]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)}: " + "; ".join(names[:_SHOWN]) + more
