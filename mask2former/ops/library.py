"""The compiled operators: loading their libraries, and choosing between them and plain PyTorch.

The libraries use no Python symbols and only PyTorch's stable ABI, so one file serves every Python version and every
torch from 2.10 on. They are `libmask2former_cpu.so` (schema and CPU kernels) and, where it was built,
`libmask2former_cuda.so`, under these names on all systems.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mask2former.ops import autograd

FOLDER = Path(__file__).resolve().parent
# By device type; the CPU library is loaded first, since it holds the schema.
LIBRARIES = {"cpu": FOLDER / "libmask2former_cpu.so", "cuda": FOLDER / "libmask2former_cuda.so"}

_logger = logging.getLogger(__name__)
_loaded: set[str] = set()
_warned: set[str] = set()
_unfit: dict[str, str] = {}  # device type -> why its library was not loaded
_plain = False  # within plain_pytorch()


def _load() -> None:
    """Load the libraries that were built. One that fails to load is a broken installation, so it is an error.

    The exception is one built for another major version of CUDA: the same wheel serves any torch, and its CPU code
    works.
    """
    for device, path in LIBRARIES.items():
        if not path.exists() or (device == "cuda" and torch.version.cuda is None):
            continue
        try:
            torch.ops.load_library(str(path))
        except OSError as error:
            if device == "cuda" and "libcudart" in str(error):
                _unfit[device] = f"{path.name} was built for another CUDA than torch's ({error}). "
                continue
            raise ImportError(
                f"{path} cannot be loaded with torch {torch.__version__}: {error}\n"
                f"Build it again with `pip install --no-build-isolation .`, or delete the file to use plain PyTorch."
            ) from error
        _loaded.add(device)
    if "cpu" in _loaded:
        autograd.register()


def is_loaded(device_type: str) -> bool:
    """Tell whether the compiled kernels for ``cpu`` or ``cuda`` are loaded."""
    return device_type in _loaded


def cpu_instructions() -> str:
    """Name the instruction set that the CPU kernels use on this machine; ``ATEN_CPU_CAPABILITY`` lowers it."""
    names = ("instructions that every machine of its kind has", "AVX2", "AVX-512")
    return names[torch.ops.mask2former._limit_cpu_variant(-1)]


def use_compiled(device_type: str) -> bool:
    """Tell whether tensors on this type of device go to the compiled operator; warn once if there is none.

    While ``torch.compile`` traces, this runs as ordinary Python and its result is taken as a constant.
    """
    if torch.compiler.is_compiling():
        from mask2former.ops.traced import constant  # not above: it imports the compiler, which is there by now

        return constant(_choose_compiled, device_type)
    return _choose_compiled(device_type)


def _choose_compiled(device_type: str) -> bool:
    if _plain:
        return False
    if is_loaded("cpu" if device_type == "meta" else device_type):  # meta tensors need only the schema and shapes
        return True
    if device_type != "meta" and device_type not in _warned:
        _warned.add(device_type)
        _logger.warning("ms_deform_attn runs on %s in plain PyTorch. %s", device_type, how_to_speed_up(device_type))
    return False


@contextmanager
def plain_pytorch() -> Iterator[None]:
    """Use plain PyTorch inside the ``with`` block, to export programs that must run without the compiled operators."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def how_to_speed_up(device_type: str) -> str:
    """Explain what plain PyTorch costs on a device without compiled kernels, and how to get those."""
    if device_type == "cpu":
        return (
            "That takes several times as long and as much memory as the compiled operator. To get it, run "
            "`pip install --no-build-isolation .` in the sources with a C++ compiler and without MASK2FORMER_NO_EXT."
        )
    if device_type == "cuda":
        return (
            f"{_unfit.get('cuda', '')}That takes several times as long and as much memory as the compiled operator. "
            "To get it, run `FORCE_CUDA=1 pip install --no-build-isolation .` in the sources, with a CUDA toolkit "
            f"(nvcc) of the major version of torch's own ({torch.version.cuda}) and without MASK2FORMER_NO_EXT."
        )
    return "There is no compiled operator for it; those for cpu and cuda are several times as fast as plain PyTorch."


_load()
