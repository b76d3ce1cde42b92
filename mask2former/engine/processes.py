"""Train in the processes that a launcher has started: torchrun, or Slurm's srun.

Detectron2 starts a training's processes itself, one for each GPU. Where a launcher has started them already, each joins
the others here instead, by what its environment says.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from detectron2.engine import launch
from detectron2.utils import comm
from torch import distributed

from mask2former.config.load import ConfigError
from mask2former.engine.interruption import signals_to_children

_SLURM_PORTS = range(20000, 30000)  # of the first machine; jobs that share it get different ones


class Place(NamedTuple):
    """The place of this process among those that a launcher has started.

    Attributes:
        launcher: "torchrun" or "srun".
        rank: 0 to ``world_size`` - 1.
        local_rank: its number on this machine, counted from 0.
        world_size: number of processes.
        machine: number or name of this machine.
        url: where the processes meet, for :func:`torch.distributed.init_process_group`.
    """

    launcher: str
    rank: int
    local_rank: int
    world_size: int
    machine: str
    url: str


def find_place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """Return the place that a launcher's environment variables tell; None if there is no launcher, or one process.

    torchrun's come first, because they are the more precise where it runs below srun. A shell or script that Slurm runs
    once has variables too, but not those of a step of several tasks.

    Raises:
        ConfigError: the variables contradict each other.
    """
    try:
        return _of_torchrun(environment) or _of_srun(environment)
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"The environment variables of torchrun or srun are incomplete or no numbers: {error}. Start every process "
            "by the same launcher, or unset WORLD_SIZE and SLURM_STEP_NUM_TASKS to train in one process."
        ) from error


def _of_torchrun(environment: Mapping[str, str]) -> Place | None:
    if int(environment.get("WORLD_SIZE", "1")) <= 1:
        return None
    return Place(
        launcher="torchrun",
        rank=int(environment["RANK"]),
        local_rank=int(environment["LOCAL_RANK"]),
        world_size=int(environment["WORLD_SIZE"]),
        machine=environment.get("GROUP_RANK", "0"),
        url="env://",
    )


def _of_srun(environment: Mapping[str, str]) -> Place | None:
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) <= 1:
        return None
    host = environment.get("MASTER_ADDR") or first_host(environment["SLURM_STEP_NODELIST"])
    port = environment.get("MASTER_PORT") or _SLURM_PORTS[int(environment["SLURM_JOB_ID"]) % len(_SLURM_PORTS)]
    return Place(
        launcher="srun",
        rank=int(environment["SLURM_PROCID"]),
        local_rank=int(environment["SLURM_LOCALID"]),
        world_size=int(environment["SLURM_STEP_NUM_TASKS"]),
        machine=environment["SLURM_NODEID"],
        url=f"tcp://{host}:{port}",
    )


def first_host(hosts: str) -> str:
    """Return the first name of Slurm's list of machines: ``gpu[08-11,13],cpu1`` gives ``gpu08``.

    Raises:
        ValueError: the list is no such list.
    """
    found = re.match(r"([\w.-]+)(?:\[([\w.-]+?)[-,\]])?", hosts)
    if not found:
        raise ValueError(f"no name of a machine in {hosts!r}")
    return found[1] + (found[2] or "")


def run_in_processes(
    run: Callable[..., Any],
    args: Sequence[Any],
    *,
    device: str,
    num_gpus: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
) -> None:
    """Call ``run(*args)`` in each process of a training: in this one if a launcher has started it, else in new ones.

    Args:
        run: trains or evaluates.
        args: its arguments.
        device: ``MODEL.DEVICE``; processes on "cpu" meet by gloo, others by NCCL.
        num_gpus, num_machines, machine_rank, dist_url: as for :func:`detectron2.engine.launch`, which starts the
            processes where no launcher has.

    Raises:
        ConfigError: as :func:`find_place`; a launcher and ``num_gpus`` or ``num_machines`` both ask for processes; or
            this machine has fewer GPUs than processes.
    """
    place = find_place()
    if place is None:
        with signals_to_children() if num_gpus * num_machines > 1 else contextlib.nullcontext():
            launch(run, num_gpus, num_machines, machine_rank, dist_url, args=tuple(args))
        return
    if num_gpus * num_machines > 1:
        raise ConfigError(
            f"{place.launcher} has started {place.world_size} processes already: leave out --num-gpus and "
            "--num-machines."
        )
    with joined(place, device):
        run(*args)


@contextlib.contextmanager
def joined(place: Place, device: str) -> Iterator[None]:
    """Join the other processes, and leave them at the end.

    Args:
        place: of this process.
        device: ``MODEL.DEVICE``.

    Raises:
        ConfigError: this machine has fewer GPUs than processes.
    """
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(_gpu(place, torch.cuda.device_count()))
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=place.url, rank=place.rank, world_size=place.world_size
    )
    _form_local_groups(place.machine)
    comm.synchronize()
    yield
    comm.synchronize()  # gloo aborts now and then where one process leaves while another still works
    distributed.destroy_process_group()  # not after an error, when the others may be gone
    comm._LOCAL_PROCESS_GROUP = None


def _gpu(place: Place, seen: int) -> int:
    """Return the number of this process's GPU."""
    if seen == 1:  # srun --gpus-per-task=1 shows each process its own
        return 0
    if place.local_rank >= seen:
        raise ConfigError(
            f"{place.launcher} has started process {place.local_rank} on this machine, counted from 0, which has "
            f"{seen} GPUs: start as many processes as GPUs, or train on the CPU by MODEL.DEVICE cpu."
        )
    return place.local_rank


def _form_local_groups(machine: str) -> None:
    """Make the group of the processes of this machine, which Detectron2 asks for its number and size."""
    machines: list[Any] = [None] * comm.get_world_size()
    distributed.all_gather_object(machines, machine)
    for name in dict.fromkeys(machines):  # all processes have to take part in making each group
        group = distributed.new_group([rank for rank, other in enumerate(machines) if other == name])
        if name == machine:
            comm._LOCAL_PROCESS_GROUP = group
