#!/usr/bin/env python3
"""Train under a real Slurm on this machine: by srun, and by a submitted job that is signalled and queued again.

Needs root, and slurmctld, slurmd and munge (on Debian: apt-get install slurmctld slurmd munge). The daemons run from a
temporary folder, beside no other Slurm, and end with the command, as its jobs do, even when a signal ends it. Both
trainings have two processes on the CPU and have to end with the same weights, bit by bit. The quickstart's images have
to be drawn (datasets/draw_quickstart.py).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "scancel", "squeue")
CONFIGURATION = """ClusterName=check
SlurmctldHost={host}
SlurmUser=root
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
NodeName={host} CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""
SMALL = [
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", "32", "MODEL.SEM_SEG_HEAD.MASK_DIM", "32", "MODEL.MASK_FORMER.HIDDEN_DIM", "32"),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", "1", "MODEL.MASK_FORMER.DEC_LAYERS", "3", "DATASETS.TEST", "()"),
    *("MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "60"),
    *("SOLVER.WARMUP_ITERS", "5", "SEED", "1"),
]


def main() -> int:
    """Run the command. Return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--patience", type=int, default=900, metavar="S", help="seconds until it gives up [%(default)s]"
    )
    args = parser.parse_args()
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        print(f"error: no {', '.join(missing)}: apt-get install slurmctld slurmd munge", file=sys.stderr)
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    folder = tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True)
    with folder as name, _descendants_ended(), _cluster(Path(name)):
        return _check(Path(name), time.monotonic() + args.patience)


def _stop(number: int, _frame: object) -> None:
    for other in (signal.SIGINT, signal.SIGTERM):  # `timeout` sends its signal twice: the end is not to be cut off
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


@contextlib.contextmanager
def _descendants_ended() -> Iterator[None]:
    """Kill in the end every process that descends from this one: the jobs' too, which leave their parents' group."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: a process that loses its parent becomes a child of this
    try:
        yield
    finally:
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        while numbers := children.read_text().split():
            for number in numbers:
                os.kill(int(number), signal.SIGKILL)
            os.waitpid(-1, 0)


@contextlib.contextmanager
def _cluster(folder: Path) -> Iterator[None]:
    """Start the daemons of a cluster of this machine alone."""
    folder.chmod(0o755)
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    host = socket.gethostname().split(".")[0]
    text = CONFIGURATION.format(host=host, folder=folder, cpus=os.cpu_count())
    (folder / "slurm.conf").write_text(text)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    files = {name: f"--{name}={folder}/munge.{end}" for name, end in MUNGE_FILES.items()}
    daemons: list[subprocess.Popen] = []
    try:
        for command in (["munged", "--foreground", "--force", *files.values()], ["slurmctld", "-D"], ["slurmd", "-D"]):
            daemons.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            time.sleep(2)
            if daemons[-1].poll() is not None:
                raise SystemExit(f"error: {command[0]} ended at once; does it run as root, and without another Slurm?")
        yield
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


MUNGE_FILES = {"key-file": "key", "socket": "sock", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}


def _check(folder: Path, until: float) -> int:
    script = [sys.executable, "-W", "ignore", str(ROOT / "train_net.py")]
    words = ["--quiet", "--config-file", str(ROOT / "configs/quickstart/panoptic.yaml")]
    os.environ["OMP_NUM_THREADS"] = "1"
    whole, job = folder / "whole", folder / "job"
    subprocess.run(["srun", "--ntasks", "2", *script, *words, *SMALL, "OUTPUT_DIR", whole], check=True)
    asked = ["--slurm", "gpus=0,tasks=2,cpus=1,hours=1"]
    command = [*script, *asked, *words, *SMALL, "OUTPUT_DIR", job]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    number = done.stdout.split()[1]
    _wait(lambda: _iteration(job) >= 19, until, "the job's iteration 20", job)
    subprocess.run(["scancel", "--signal=USR2", number], check=True)
    _wait(lambda: _resumed(job, number), until, "the job's second start", job)
    _wait(lambda: not _queued(number), until, "the job's end", job)
    import torch

    one, other = (torch.load(path / "model_final.pth", weights_only=True)["model"] for path in (whole, job))
    unlike = [name for name in one if not torch.equal(one[name], other[name])]
    rows = len((job / "metrics.json").read_text().splitlines())
    print(
        f"Queued again once; {rows} rows of metrics; {len(one) - len(unlike)} of {len(one)} tensors equal bit by bit."
    )
    return 1 if unlike else 0


def _iteration(folder: Path) -> int:
    file = folder / "metrics.json"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return max((row["iteration"] for row in rows), default=-1)


def _resumed(folder: Path, number: str) -> bool:
    log = folder / "slurm" / f"{number}_0_log.out"
    return log.exists() and log.read_text().count("Starting with JobEnvironment") > 1


def _queued(number: str) -> bool:
    return number in subprocess.run(["squeue", "--noheader", "--format=%i"], capture_output=True, text=True).stdout


def _wait(done, until: float, what: str, folder: Path) -> None:  # type: ignore[no-untyped-def]
    while not done():
        if time.monotonic() > until:
            logs = "\n".join(log.read_text()[-3000:] for log in sorted(folder.glob("slurm/*_0_log.*")))
            raise SystemExit(f"error: waited in vain for {what}.\n{logs}")
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
