"""Reading a file of weights takes at most twice the file's size, in every format; loading leaves the rest unread."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mask2former.checkpoint.weights_io import write

# Prints the most memory that reading each file took beyond what the process had, in bytes. The first warms up.
MEASURE = """
import sys
from mask2former.checkpoint.weights_io import read
def memory(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1]) << 10
for path in sys.argv[1:]:
    open("/proc/self/clear_refs", "w").write("5")
    before = memory("VmRSS")
    state = read(path)
    print(memory("VmHWM") - before)
    del state
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
@pytest.mark.parametrize(
    "kind",
    [
        "zip",
        "safetensors",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("legacy", "pickle 2", "pickle 4")),
    ],
)
def test_reading_takes_at_most_twice_the_file(tmp_path: Path, kind: str) -> None:
    paths = []
    for side in (8, 1024):
        path = tmp_path / f"{side}{'.safetensors' if kind == 'safetensors' else '.pkl' if 'pickle' in kind else '.pth'}"
        state = {f"layer{number}": torch.randn(side, side) for number in range(12)}
        if kind == "safetensors":
            write(state, str(path))
        elif kind.startswith("pickle"):
            arrays = {name: np.asarray(value) for name, value in state.items()}
            path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Me"}, protocol=int(kind[-1])))
        else:
            torch.save({"model": state}, path, _use_new_zipfile_serialization=kind == "zip")
        paths.append(path)
    assert os.path.getsize(paths[1]) >= 12 << 22
    done = subprocess.run([sys.executable, "-c", MEASURE, *paths], stdout=subprocess.PIPE, text=True, check=True)
    assert int(done.stdout.split()[1]) <= 2 * os.path.getsize(paths[1])


# As above, of loading into a model that is there, which warms up with the first file.
LOAD = """
import sys
from torch import nn
from mask2former.checkpoint import MaskFormerCheckpointer
def memory(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1]) << 10
for path, side in zip(sys.argv[1:], (8, 1536)):
    model = nn.ModuleDict({f"layer{number}": nn.Linear(side, side) for number in range(4)})
    open("/proc/self/clear_refs", "w").write("5")
    before = memory("VmRSS")
    MaskFormerCheckpointer(model).load(path)
    print(memory("VmHWM") - before, float(model["layer3"].weight.mean()))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_a_trainings_checkpoint_takes_the_memory_of_its_weights(tmp_path: Path) -> None:
    paths = []
    for side in (8, 1536):
        model = torch.nn.ModuleDict({f"layer{number}": torch.nn.Linear(side, side) for number in range(4)})
        torch.nn.init.constant_(model["layer3"].weight, 0.25)
        state = [[torch.zeros(side, side) for _ in range(8)] for _ in range(2)]  # as an optimiser has, and more
        torch.save({"model": model.state_dict(), "trainer": {"optimizer": state}}, tmp_path / f"{side}.pth")
        paths.append(tmp_path / f"{side}.pth")
    weights, file = 4 * 4 * 1536**2, os.path.getsize(paths[1])
    assert file > 4 * weights
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, *paths], stdout=subprocess.PIPE, text=True, check=True
    )
    grown, mean = done.stdout.splitlines()[-1].split()
    assert int(grown) < 1.5 * weights and float(mean) == 0.25
