"""Submit a training to Slurm, which goes on by itself after a time limit or a preemption.

submitit (MIT licence, extra ``slurm``) writes the script, submits it and starts the processes. Ahead of the end comes a
signal: the training finishes its step, saves everything, and is queued again to resume.
"""

from __future__ import annotations

import difflib
import math
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from mask2former.config.load import ConfigError
from mask2former.engine.interruption import SIGNALS, Interrupted, lend_handlers

_MAX_REQUEUES = 1000  # a training of many time limits; submitit's own default is 3
_WARNING = 120  # seconds ahead of the time limit in which a step is finished and everything saved
_OWN = ("nodes", "gpus", "tasks", "cpus", "memory", "hours", "cluster")


class Allocation(NamedTuple):
    """Ask Slurm for the machines and the time of a training.

    Attributes:
        nodes: machines.
        gpus: GPUs of each machine; 0: none.
        tasks: processes of each machine; None: one for each GPU, or one.
        cpus: processor cores of each process.
        memory: gigabytes of each machine; None: the cluster's default.
        hours: time limit, after which the training is queued again.
        cluster: "slurm", or "local" for this machine without a scheduler, to try it.
        others: any other option of sbatch, such as ``{"partition": "gpu"}``.
    """

    nodes: int = 1
    gpus: int = 1
    tasks: int | None = None
    cpus: int = 4
    memory: float | None = None
    hours: float = 24
    cluster: str = "slurm"
    others: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def read(cls, text: str) -> Allocation:
        """Read pairs, such as ``partition=gpu,nodes=2,gpus=8,hours=12``.

        Raises:
            ConfigError: there is something else, or a value is no number or out of range.
        """
        own: dict[str, Any] = {}
        others: dict[str, str] = {}
        for word in text.split(","):
            key, equals, value = word.partition("=")
            if not (equals and key and value):
                raise ConfigError(f"--slurm takes KEY=VALUE, such as partition=gpu or hours=12; found {word!r}.")
            if key not in _OWN:
                near = difflib.get_close_matches(key, _OWN, cutoff=0.8)
                if near:
                    raise ConfigError(f"--slurm knows no {key}; {near[0]} is meant?")
                others[key.replace("-", "_")] = value
            elif key == "cluster":
                own[key] = value
            else:
                own[key] = _number(key, value)
        asked = cls(**own, others=others)
        if asked.cluster not in ("slurm", "local"):
            raise ConfigError(f"--slurm cluster={asked.cluster}: it is slurm, or local to try it on this machine.")
        return asked

    @property
    def tasks_per_node(self) -> int:
        return self.tasks or max(self.gpus, 1)

    def parameters(self) -> dict[str, Any]:
        """Return submitit's parameters."""
        result: dict[str, Any] = {
            **{"nodes": self.nodes, "tasks_per_node": self.tasks_per_node, "timeout_min": math.ceil(self.hours * 60)},
            **{"slurm_signal_delay_s": min(_WARNING, int(self.hours * 1800)), "cpus_per_task": self.cpus},
            **{f"slurm_{key}": value for key, value in self.others.items()},
        }
        if self.gpus:
            result["gpus_per_node"] = self.gpus
        if self.memory:
            result["mem_gb"] = self.memory
        return result


def _number(key: str, value: str) -> int | float:
    try:
        number = float(value) if key in ("memory", "hours") else int(value)
    except ValueError:
        number = -1
    if number < 0 or (number == 0 and key != "gpus"):
        raise ConfigError(f"--slurm {key}={value}: it has to be a number above 0.")
    return number


class TrainingJob:
    """A training that submitit runs in each of its processes, and queues again after a signal.

    Args:
        train: takes the words of a command line.
        words: these; ``--resume`` is added when the job is queued again.
    """

    def __init__(self, train: Callable[[list[str]], Any], words: Sequence[str]) -> None:
        self.train, self.words = train, list(words)

    def __call__(self) -> None:
        """Train, as one process of the job."""
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment

        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        os.environ["GROUP_RANK"] = str(JobEnvironment().node)
        # submitit has a handler for the signal by which a job is told its end. The training takes its place while it
        # runs, to save first; then the signal goes to submitit.
        submitits = [number for number in SIGNALS if number != signal.SIGTERM and _has_handler(number)]
        try:
            with lend_handlers(submitits):
                self.train(self.words)
        except Interrupted as stop:
            if stop.signal in submitits:
                signal.raise_signal(stop.signal)  # in the first process: calls checkpoint(), queues again and ends
            raise

    def checkpoint(self) -> Any:
        """Return what submitit queues again: the same, resumed."""
        from submitit.helpers import DelayedSubmission

        words = self.words if "--resume" in self.words else ["--resume", *self.words]
        return DelayedSubmission(TrainingJob(self.train, words))


def _has_handler(number: int) -> bool:
    handler = signal.getsignal(number)
    return callable(handler) and handler is not signal.default_int_handler


def submit(train: Callable[[list[str]], Any], words: Sequence[str], asked: Allocation, folder: str | Path) -> Any:
    """Submit a training; return submitit's job, whose ``job_id`` is Slurm's.

    Args:
        train: a function of a module that the job's Python can import; it gets ``words``.
        words: of the training's command line.
        asked: machines and time.
        folder: for submitit's files and what the processes print; shared with the machines that train.

    Raises:
        ConfigError: submitit is not installed, there is no Slurm, or Slurm refuses.
    """
    try:
        import submitit
    except ImportError as error:
        raise ConfigError("--slurm needs submitit: pip install 'mask2former[slurm]'.") from error
    try:
        executor = submitit.AutoExecutor(folder, cluster=asked.cluster, slurm_max_num_timeout=_MAX_REQUEUES)
        executor.update_parameters(name="mask2former", **asked.parameters())
        return executor.submit(TrainingJob(train, words))
    except (RuntimeError, ValueError, NameError, OSError) as error:  # submitit's are RuntimeErrors
        raise ConfigError(f"The job was not submitted: {error}") from error
