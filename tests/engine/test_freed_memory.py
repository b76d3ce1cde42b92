"""Freed memory stays with a training on a CPU, unless the user chose otherwise."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

import pytest
from forked import run_forked

from mask2former.engine.freed_memory import keep_freed_memory

BLOCK = 20 << 20  # bytes; two of them at the end of the heap are more than glibc keeps by itself
needs_glibc = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc"
)


def count_faults(rank: int, keeps: bool, result: Path) -> None:
    """Write how many times the system had to find memory for some blocks, one after the other."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    assert not keeps or keep_freed_memory({})
    before = 0
    for number in range(6):
        if number == 1:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [libc.malloc(BLOCK) for _ in range(4)]
        for block in blocks:
            ctypes.memset(block, 1, BLOCK)
        for block in blocks:
            libc.free(block)
    result.write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))


@needs_glibc
def test_blocks_are_taken_from_what_was_freed(tmp_path: Path):
    faults = []
    for keeps in (False, True):
        run_forked(count_faults, (keeps, tmp_path / "faults"), count=1)
        faults.append(int((tmp_path / "faults").read_text()))
    given_back, kept = faults

    assert given_back >= 5 * BLOCK // (2 << 20)  # a huge page for each fault at most
    assert kept < given_back / 5


@pytest.mark.parametrize("chosen", [{"MALLOC_ARENA_MAX": "1"}, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}])
def test_what_the_user_chose_stays(chosen):
    assert not keep_freed_memory(chosen)
