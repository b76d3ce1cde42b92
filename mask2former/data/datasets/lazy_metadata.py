"""Metadata of a data set whose category table is read when somebody asks for it, not when the package is imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detectron2.data.catalog import Metadata


class LazyMetadata(Metadata):
    """Detectron2's metadata, of which all but ``known`` is made at the first question that ``known`` cannot answer.

    Args:
        load: makes the rest.
        known: what there is without it: name and paths. It goes before what ``load`` gives.
    """

    __slots__ = ("_load",)  # outside of the attributes, which are the data set's

    def __init__(self, load: Callable[[], dict[str, Any]], **known: Any) -> None:
        object.__setattr__(self, "_load", load)
        super().__init__(**known)

    def _complete(self) -> bool:
        """Make the rest. Return False if that was done before."""
        load = object.__getattribute__(self, "_load")
        if load is None:
            return False
        object.__setattr__(self, "_load", None)
        self.__dict__.update({**load(), **self.__dict__})
        return True

    def __getattr__(self, key: str) -> Any:
        """Answer for what is not there yet. Python's own questions (``__deepcopy__``) are none about the data set."""
        if not key.startswith("__") and self._complete():
            return getattr(self, key)
        return super().__getattr__(key)

    def as_dict(self) -> dict[str, Any]:
        self._complete()
        return super().as_dict()

    def __eq__(self, other: object) -> bool:
        self._complete()
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]  # as SimpleNamespace has it

    def __repr__(self) -> str:
        self._complete()
        return super().__repr__()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as plain metadata, which needs no loader."""
        return Metadata, (), self.as_dict()
