"""Run functions and commands in processes that a server forks, which has imported everything once.

A process that starts afresh imports PyTorch, Detectron2 and this package anew: ten to twenty seconds of processor time.
Use subprocess instead where the import itself is tested, as with scripts that import Detectron2 first, and where it
reads the environment, as Detectron2 reads DETECTRON2_DATASETS.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.multiprocessing

# The engine, and what a training imports later: optimisers and DistributedDataParallel import PyTorch's compiler.
PRELOADED = ["mask2former.engine.trainer", "torch._dynamo"]


def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _be_as_started(environment: Mapping[str, str]) -> None:
    """Take the environment of the test, not that in which the server has started, and Python's own way to fork."""
    os.environ.clear()
    os.environ.update(environment)
    multiprocessing.set_start_method(None, force=True)


def _call(rank: int, environment: Mapping[str, str], function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    _be_as_started(environment)
    function(rank, *arguments)


def run_forked(function: Callable[..., None], arguments: tuple[Any, ...] = (), count: int = 2) -> None:
    """Run ``function(rank, *arguments)`` in ``count`` processes; raises what ``torch.multiprocessing.spawn`` does."""
    _context()
    whole = (dict(os.environ), function, arguments)
    torch.multiprocessing.start_processes(_call, whole, nprocs=count, start_method="forkserver")


def _run_words(words: list[str], folder: str, environment: dict[str, str], out: str, err: str) -> None:
    """Do what ``python -W ignore *words`` does in a folder, with standard output and error in files."""
    for stream, file in ((sys.stdout, out), (sys.stderr, err)):
        stream.flush()
        with open(file, "wb") as target:
            os.dup2(target.fileno(), stream.fileno())
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115  (the process's own, until it ends)
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    _be_as_started(environment)
    os.chdir(folder)
    warnings.simplefilter("ignore")
    sys.argv = words[1:] if words[0] == "-m" else words
    try:
        if words[0] == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(words[0]).resolve().parent))
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit:
        raise  # multiprocessing prints a message and sets the code, as Python does
    except BaseException:
        traceback.print_exc()
        sys.exit(1)


def start_python(
    words: Sequence[object], out: Path, err: Path, *, folder: Path, environment: Mapping[str, str] | None = None
) -> multiprocessing.process.BaseProcess:
    """Start ``python -W ignore *words`` in ``folder``: a script, or "-m" and a module, and its arguments."""
    given = dict(os.environ if environment is None else environment)
    process = _context().Process(target=_run_words, args=([*map(str, words)], str(folder), given, str(out), str(err)))
    process.start()
    return process


def run_python(
    words: Sequence[object], *, folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it to its end; returns its exit code and what it wrote."""
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place, "out"), Path(place, "err")
        process = start_python(words, out, err, folder=folder, environment=environment)
        process.join()
        return subprocess.CompletedProcess(words, process.exitcode or 0, out.read_text(), err.read_text())
