"""Processes that torchrun or srun has started train together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from forked import run_forked

from mask2former.config.load import ConfigError
from mask2former.engine.processes import Place, find_place, first_host, joined, run_in_processes
from mask2former_cli import run_command

ROOT = Path(__file__).parents[2]
CONFIG = ("--config-file", "configs/quickstart/panoptic.yaml")
TORCHRUN = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "GROUP_RANK": "1"}
SRUN = {
    **{"SLURM_JOB_ID": "123456", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NODELIST": "gpu[08-09]"},
    **{"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"},
}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, None),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}, None),  # torchrun --nproc-per-node 1
        (TORCHRUN, Place("torchrun", 5, 1, 8, "1", "env://")),
        (SRUN, Place("srun", 3, 1, 4, "1", "tcp://gpu08:23456")),
        (
            {**SRUN, "MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "29511"},
            Place("srun", 3, 1, 4, "1", "tcp://10.0.0.7:29511"),
        ),
        # A script of sbatch runs once, though its job has many tasks; so does a shell of `srun --pty`.
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, None),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({**SRUN, **TORCHRUN}, Place("torchrun", 5, 1, 8, "1", "env://")),
    ],
)
def test_places(environment, place):
    assert find_place(environment) == place


@pytest.mark.parametrize(
    ("environment", "named"), [({"WORLD_SIZE": "2"}, "RANK"), ({**TORCHRUN, "LOCAL_RANK": "first"}, "first")]
)
def test_a_broken_environment_says_what_is_wrong(environment, named):
    with pytest.raises(ConfigError, match=named):
        find_place(environment)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        *[("gpu08", "gpu08"), ("gpu[08-11,13],cpu1", "gpu08"), ("gpu[7,9]", "gpu7"), ("a-b.site,c", "a-b.site")],
        *[("rack1-node[003]", "rack1-node003"), ("10.0.0.7", "10.0.0.7")],
    ],
)
def test_first_host(hosts, first):
    assert first_host(hosts) == first


def test_no_host():
    with pytest.raises(ValueError, match="name of a machine"):
        first_host("")


def test_one_process_runs_here():
    seen = []
    run_in_processes(seen.append, ("here",), device="cpu")
    assert seen == ["here"]


def test_a_launcher_and_num_gpus_contradict(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="torchrun has started 8 processes already: leave out --num-gpus"):
        run_in_processes(print, (), device="cpu", num_gpus=2)


@pytest.mark.parametrize(("rank", "said"), [("0", 1), ("5", 0)])
def test_train_custom_takes_processes_of_one_launcher(monkeypatch, capsys, tmp_path, rank, said):
    for name, value in {**TORCHRUN, "RANK": rank}.items():
        monkeypatch.setenv(name, value)
    words = ["--train", "images", "labels", "--output", str(tmp_path / "out"), "--num-gpus", "2"]
    assert run_command("train-custom", words) == 2
    assert capsys.readouterr().err.count("torchrun has started 8 processes already") == said
    assert not (tmp_path / "out").exists()


def worker(rank, folder):
    torch.set_num_threads(1)
    # Two machines of two processes, dealt out in turn (srun --distribution=cyclic).
    place = Place("srun", rank, rank // 2, 4, f"node{rank % 2}", f"file://{folder}/meeting")
    with joined(place, "cpu"):
        facts = [comm.get_rank(), comm.get_world_size(), comm.get_local_rank(), comm.get_local_size()]
    Path(folder, f"rank{rank}.json").write_text(json.dumps([*facts, comm.get_world_size()]))


@pytest.mark.slow
def test_machines_have_groups_of_their_own(tmp_path):
    run_forked(worker, (str(tmp_path),), count=4)
    found = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(4)]
    assert found == [[0, 4, 0, 2, 1], [1, 4, 0, 2, 1], [2, 4, 1, 2, 1], [3, 4, 1, 2, 1]]


def scores(folder):
    return json.loads((folder / "scores.json").read_text())


@pytest.mark.slow
def test_four_processes_of_torchrun_train_and_score_as_one_does(datasets, small_network, tmp_path):
    """Scores of the same weights by one process are the same."""

    def run(launcher, name, *flags, keys):
        script = ["train_net.py", "--quiet", *CONFIG, *flags, *small_network, *keys]
        command = [*launcher, *script, "OUTPUT_DIR", tmp_path / name]
        environment = {
            **os.environ,
            **{"DETECTRON2_DATASETS": str(datasets), "PYTHONPATH": os.pathsep.join(sys.path)},
            **{"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        }
        done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout + done.stderr

    said = run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "4"],
        "four",
        keys=("SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "4"),
    )
    assert said.count("iteration 2/2") == 1  # one process speaks
    rows = [json.loads(line) for line in (tmp_path / "four" / "metrics.json").read_text().splitlines()]
    assert [row["iteration"] for row in rows if "total_loss" in row][-1] == 1
    run([sys.executable], "one", "--eval-only", keys=("MODEL.WEIGHTS", tmp_path / "four" / "model_final.pth"))
    assert scores(tmp_path / "four") == scores(tmp_path / "one")
