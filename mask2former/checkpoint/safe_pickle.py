"""Reading ``.pkl`` weights without running what is in them."""

from __future__ import annotations

import _codecs
import collections
import pickle
from typing import IO, Any

import numpy as np

# What NumPy's own pickles call; the module's name in a file depends on the NumPy that wrote it.
_reconstruct = np.empty(0).__reduce__()[0]
_scalar = np.float32(0).__reduce__()[0]
_frombuffer = np.empty(0).__reduce_ex__(5)[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _codecs.encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}; weights hold only NumPy arrays and plain containers, "
                "and anything else could run code"
            ) from None


def load_arrays(file: IO[bytes], name: str) -> Any:
    """Unpickle arrays and plain containers.

    Args:
        file: opened for reading bytes.
        name: of the file, for errors.

    Raises:
        ValueError: the file holds anything else.
    """
    try:
        return _Unpickler(file, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{name} is not loaded: {error}. If you trust where it comes from, load it by hand and save its "
            "arrays with torch.save()."
        ) from None
