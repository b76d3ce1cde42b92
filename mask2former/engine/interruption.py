"""Stop on a signal: the step is finished, its state is saved, and the process ends with the code that says why.

Where another process of the training is gone, nothing can be finished: the error says what happened and how to go on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType

import torch.distributed
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

# Ctrl-C; what schedulers send before they kill; what users have Slurm send ahead of the time limit (--signal=USR1@120);
# what submitit has it send.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)
_lent: set[int] = set()  # signals with a handler that stop_requests may replace for its time
_SAME = 0.5  # seconds within which two Ctrl-C are one: the terminal's to the whole group, and the parent's


class Interrupted(SystemExit):
    """The end of a program that a signal stopped in good order; the exit code is 128 + the signal's number.

    SIGINT gives 130, SIGTERM 143, SIGUSR1 138 and SIGUSR2 140 on Linux.

    Args:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class LostProcessError(RuntimeError):
    """The end of a training one of whose processes is gone; the message tells how to go on.

    Args:
        found: what was noticed.
    """

    def __init__(self, found: str) -> None:
        super().__init__(
            f"{found}. A process that is gone has said why in its own output; one that the system killed has not: then "
            "look for a lack of memory (dmesg), or what a scheduler did. To go on, from the newest whole checkpoint if "
            f"there is one:\n  {resume_command()}"
        )


@contextlib.contextmanager
def lost_processes_named() -> Iterator[None]:
    """Turn an error of the connection to other processes into one that says what to do.

    Raises:
        LostProcessError: in place of that error, which is its cause. Alone, a process has no such connection.
    """
    try:
        yield
    except RuntimeError as error:
        # gloo's errors have no type of their own.
        of_connection = isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error)
        if comm.get_world_size() == 1 or not of_connection:
            raise
        found = f"Process {comm.get_rank()} lost the connection to another process of this training"
        raise LostProcessError(f"{found} ({str(error).splitlines()[0]})") from error


class StopRequests:
    """Hold what was asked for so far.

    Attributes:
        number: number of the first signal that came; 0: none.
    """

    number = 0
    _interrupted = 0.0

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """Note a signal; a second Ctrl-C raises KeyboardInterrupt at once."""
        now = time.monotonic()
        if number == signal.SIGINT:
            if self._interrupted and now - self._interrupted > _SAME:
                raise KeyboardInterrupt
            self._interrupted = self._interrupted or now
        if not self.number:
            self.number = number
            # Not by a logger, whose stream may be in the middle of a line when the signal comes.
            name = signal.Signals(number).name
            with contextlib.suppress(OSError):  # `| tee log` gets the same Ctrl-C, and may be gone already
                os.write(2, f"\n{name}: stopping as soon as all is saved. Ctrl-C (again) stops at once.\n".encode())

    def votes(self) -> list[float]:
        """Return 1 for the signal that came, and 0 for the others of ``SIGNALS``."""
        return [float(number == self.number) for number in SIGNALS]


_current: StopRequests | None = None


def are_noted() -> bool:
    """Tell whether this is inside of a :func:`stop_requests` block, whose owner will act on requests."""
    return _current is not None


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequests]:
    """Note the signals ``SIGNALS`` in place of ending the process, and restore the handlers at the end.

    A handler that the user's program has set is left alone, unless :func:`lend_handlers` says otherwise, and so is a
    signal that the process ignores. Handlers belong to the main thread: in others, nothing is noted. An inner block
    shares the requests of the outer one.
    """
    global _current
    if _current is not None or threading.current_thread() is not threading.main_thread():
        yield _current or StopRequests()
        return
    requests = StopRequests()
    before = {
        number: handler
        for number in SIGNALS
        if (handler := signal.getsignal(number)) in _DEFAULTS or (number in _lent and handler != signal.SIG_IGN)
    }
    _current = requests
    try:
        for number in before:
            signal.signal(number, requests.note)
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _current = None


@contextlib.contextmanager
def lend_handlers(numbers: Iterable[int]) -> Iterator[None]:
    """Let :func:`stop_requests` note these signals though they have handlers, such as a scheduler's, for its time."""
    lent = set(numbers) - _lent
    _lent.update(lent)
    try:
        yield
    finally:
        _lent.difference_update(lent)


@contextlib.contextmanager
def signals_to_children() -> Iterator[None]:
    """Pass signals on to child processes, which train, and end with the exit code of one that a signal stopped.

    Raises:
        Interrupted: a child ended so, in good order; or a second Ctrl-C ended them all.
        LostProcessError: a signal killed a child.
    """
    interrupts: list[float] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            interrupts.append(time.monotonic())
        for child in multiprocessing.active_children():
            if child.pid is not None:
                with contextlib.suppress(ProcessLookupError):  # it has ended since
                    os.kill(child.pid, number)

    before = {number: signal.getsignal(number) for number in SIGNALS if signal.getsignal(number) in _DEFAULTS}
    try:
        for number in before:
            signal.signal(number, pass_on)
        yield
    except ProcessRaisedException:
        if interrupts and interrupts[-1] - interrupts[0] > _SAME:  # the children raise KeyboardInterrupt then
            raise Interrupted(signal.SIGINT) from None
        raise
    except ProcessExitedException as error:
        if error.exit_code - 128 in SIGNALS:
            raise Interrupted(error.exit_code - 128) from None
        if error.signal_name:
            found = f"Process {error.error_index} of this training was killed ({error.signal_name})"
            raise LostProcessError(found) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def resume_command() -> str:
    """Return the command of this program with ``--resume``, to be pasted into a shell in the same folder."""
    given = sys.argv[1:]
    # Interpreter, its options and the script or module; a spawned process is started by other words.
    spawned = multiprocessing.parent_process() is not None
    words = [sys.executable, sys.argv[0]] if spawned else sys.orig_argv[: len(sys.orig_argv) - len(given)]
    return shlex.join([*words, *([] if "--resume" in given else ["--resume"]), *given])
