"""Reading of ``.pkl`` weights without running code in them.

NumPy's own functions for unpickling are not used: they trust what a file says of its data types, and a type that hides
an object pointer among its fields turns memory of the file's choice into an object. Here arrays are built from plain
numbers, and only the letter and byte order of a type are read.
"""

from __future__ import annotations

import collections
import functools
import pickle
import re
from typing import IO, Any

import numpy as np

from mask2former.checkpoint.pickle_scan import scan

_SPARE = 1 << 20  # bytes
_MANY = 1 << 16  # bytes
_PLAIN = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|c8|c16)")


class _Budget:
    """Bytes that a file may turn into: arrays and texts that it uses again and again would grow without end."""

    def __init__(self, size: int) -> None:
        self.left = 2 * size + _SPARE

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise pickle.UnpicklingError("its arrays take more memory than the file has bytes")


class _Type:
    """Stand-in for a ``numpy.dtype``."""

    budget: _Budget  # of the file, set by a subclass for it

    def __init__(self, code: str, *flags: object) -> None:
        if not isinstance(code, str) or not _PLAIN.fullmatch(code):
            raise pickle.UnpicklingError(f"it has arrays of type {code!r}; weights are numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        order, rest = state[1], state[2:5]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in rest):
            raise pickle.UnpicklingError("it has arrays of structures; weights are numbers")
        self.dtype = self.dtype.newbyteorder(order)

    def array(self, data: bytes | bytearray | str, shape: tuple[int, ...], fortran: bool = False) -> np.ndarray:
        if isinstance(data, str):  # written by Python 2
            data = data.encode("latin1")
        self.budget.spend(len(data))
        values = np.frombuffer(data, self.dtype).reshape(shape, order="F" if fortran else "C")
        # Of memory of its own, which is writable, an array needs no copy.
        return values.astype(self.dtype.newbyteorder("="), order="K", copy=not isinstance(data, bytearray))


class _Array:
    """Stand-in for a ``numpy.ndarray`` whose content follows."""

    value: np.ndarray | None = None

    def __init__(self, *arguments: object) -> None:
        """Accept the arguments of NumPy's ``_reconstruct``, which describe a meaningless empty array."""

    def __setstate__(self, state: tuple) -> None:
        *_, shape, kind, fortran, data = state
        self.value = kind.array(data, shape, fortran)


def _scalar(kind: _Type, data: bytes | str) -> Any:
    return kind.array(data, ())[()]


def _from_buffer(data: bytes, kind: _Type, shape: tuple[int, ...], order: str, *axes: object) -> np.ndarray:
    return kind.array(data, shape, order == "F")


def _encode(budget: _Budget, text: str, encoding: str) -> bytes | bytearray:
    """Decode bytes as the oldest protocols spell them. Other encodings could import modules or unpack archives.

    Many bytes are an array's, and get memory which that can keep.
    """
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it has text in {encoding}")
    budget.spend(len(text))
    return text.encode("latin1") if len(text) < _MANY else bytearray(text, "latin1")


def _no_bytes() -> bytes:
    """Decode empty bytes as those protocols spell them."""
    return b""


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
}
for _package in ("numpy.core", "numpy._core"):  # depending on the NumPy that wrote the file
    _ALLOWED[f"{_package}.multiarray", "_reconstruct"] = _Array
    _ALLOWED[f"{_package}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_package}.numeric", "_frombuffer"] = _from_buffer


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__(file, encoding="latin1")
        budget = _Budget(size)
        self._own = {_Type: type("_Type", (_Type,), {"budget": budget}), _encode: functools.partial(_encode, budget)}

    def find_class(self, module: str, name: str) -> Any:
        try:
            found = _ALLOWED[module, name]
            return self._own.get(found, found)
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}; weights hold only NumPy arrays and plain containers, "
                "and anything else could run code"
            ) from None


def load_arrays(file: IO[bytes], name: str) -> Any:
    """Unpickle arrays of numbers and plain containers.

    Args:
        file: opened for reading bytes, at its start.
        name: name of the file, for errors.

    Raises:
        ValueError: the file holds anything else, or is broken.
    """
    try:
        scan(file)
        size = file.tell()
        file.seek(0)
        return _finished(_Unpickler(file, size).load(), {})
    except pickle.UnpicklingError as error:
        reason = str(error)
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        reason = f"it is broken ({type(error).__name__}: {error})"
    raise ValueError(
        f"{name} is not loaded: {reason}. If you trust where it comes from, load it by hand and save its "
        "arrays with torch.save()."
    )


def _finished(value: Any, known: dict[int, Any]) -> Any:
    """Replace stand-ins in ``value`` by arrays and types. ``known`` holds results by the identity of values."""
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, _Array):
        if value.value is None:
            raise pickle.UnpicklingError("it has an array without content")
        result: Any = value.value
    elif isinstance(value, _Type):
        result = value.dtype
    elif isinstance(value, dict):
        result = type(value)((_finished(key, known), _finished(item, known)) for key, item in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        result = type(value)(_finished(item, known) for item in value)
    else:
        result = value
    known[id(value)] = result
    return result
