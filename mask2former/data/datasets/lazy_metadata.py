"""Metadata of a data set whose category table is read when needed, not when the package is imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detectron2.data.catalog import Metadata


class LazyMetadata(Metadata):
    """Detectron2's metadata; all but ``known`` is loaded when an attribute outside of ``known`` is first read.

    Args:
        load: returns the rest.
        known: attributes that need no loading: name and paths. They override those of ``load``.
    """

    __slots__ = ("_load",)  # not in __dict__, whose entries are the data set's metadata

    def __init__(self, load: Callable[[], dict[str, Any]], **known: Any) -> None:
        object.__setattr__(self, "_load", load)
        super().__init__(**known)

    def _complete(self) -> bool:
        """Load the rest. Return False if that was done before."""
        load = object.__getattribute__(self, "_load")
        if load is None:
            return False
        object.__setattr__(self, "_load", None)
        self.__dict__.update({**load(), **self.__dict__})
        return True

    def __getattr__(self, key: str) -> Any:
        """Load what is missing. Names of Python's own (``__deepcopy__``) do not cause loading."""
        if not key.startswith("__") and self._complete():
            return getattr(self, key)
        return super().__getattr__(key)

    def as_dict(self) -> dict[str, Any]:
        self._complete()
        return super().as_dict()

    def __eq__(self, other: object) -> bool:
        self._complete()
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]  # like SimpleNamespace

    def __repr__(self) -> str:
        self._complete()
        return super().__repr__()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as plain metadata, which needs no loader."""
        return Metadata, (), self.as_dict()
