"""Signals in worker processes of a loader."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def leave_signals_to_the_parent(worker: int) -> None:
    """Keep a worker at work when a terminal or a scheduler signals all processes: the parent still needs its images."""
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # Linux
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        parent = multiprocessing.parent_process()  # getppid would be the server's, where workers come from one
        told_by = os.getppid() if parent is None or parent.pid is None else parent.pid
        threading.Thread(target=_end_when_told_by, args=(told_by,), daemon=True).start()


def _end_when_told_by(parent: int) -> None:
    """End this process at a SIGTERM of its parent, by which PyTorch ends workers; ignore those of a scheduler."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(128 + signal.SIGTERM)
