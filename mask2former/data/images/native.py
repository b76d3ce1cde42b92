"""Hear what libraries in C say on the standard error stream, their only way to tell of damage they read over."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator

_STDERR = 2


def lock_across_forks() -> threading.RLock:
    """Return a lock that is never held by another thread when the process forks: nobody would release it in the child.

    The process takes the locks of later calls first when it forks. Threads that hold several have to do so too.
    """
    lock = threading.RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


_lock = lock_across_forks()  # one at a time; moreover, a child would keep the replaced stream


@contextlib.contextmanager
def heard(*beginnings: str) -> Iterator[list[str]]:
    """Collect the lines written to the process's standard error that begin with one of these texts.

    All other lines are written there afterwards, so that nothing of other threads is lost.

    Yields:
        The list, which is filled when the block ends.
    """
    lines: list[str] = []
    with _lock, _anonymous_file() as sink:
        try:
            saved = os.dup(_STDERR)
        except OSError:  # a process without the stream
            saved = None
        os.dup2(sink, _STDERR)
        try:
            yield lines
        finally:
            if saved is None:
                os.close(_STDERR)
            else:
                os.dup2(saved, _STDERR)
                os.close(saved)
            for line in _content(sink):
                text = line.decode(errors="replace").strip()
                if text.startswith(beginnings):
                    lines.append(text)
                elif saved is not None:
                    os.write(_STDERR, line)


def _content(sink: int) -> list[bytes]:
    length = os.lseek(sink, 0, os.SEEK_CUR)
    if not length:
        return []
    os.lseek(sink, 0, os.SEEK_SET)
    return os.read(sink, length).splitlines(keepends=True)


@contextlib.contextmanager
def _anonymous_file() -> Iterator[int]:
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("stderr")
        try:
            yield number
        finally:
            os.close(number)
    else:
        with tempfile.TemporaryFile() as file:
            yield file.fileno()
