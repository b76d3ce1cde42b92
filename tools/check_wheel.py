"""Install a wheel where there is no compiler, and see that its operator computes what plain PyTorch does.

In a fresh virtual environment with the torch and the Python asked for (5 GB, minutes; uv's cache helps the next time),
with nothing but that environment on the PATH. Example:

    .venv/bin/python tools/check_wheel.py dist/mask2former-*.whl --torch 2.10.0 --python python3.12
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from setup_env import BIN, DETECTRON2, DETECTRON2_OPTIONS, NO_ISOLATION, PINNED, ROOT

UV = [sys.executable, "-m", "uv"]
CHECK = """
import shutil, sys, torch
from mask2former import ops
from mask2former.ops import library

assert not any(map(shutil.which, ["cc", "gcc", "c++", "g++", "clang", "nvcc"])), "there is a compiler on the PATH"
assert str(library.FOLDER).startswith(sys.prefix), f"{library.FOLDER} is not of the wheel"
assert library.is_loaded("cpu"), "the compiled operator is not there"
torch.manual_seed(0)
shapes = [(5, 7), (9, 13), (18, 25)]
value, places, logits = torch.randn(2, 602, 8, 32), torch.rand(2, 602, 8, 3, 4, 2), torch.randn(2, 602, 8, 12)
results = []
for function in (ops.ms_deform_attn, ops.ms_deform_attn_reference):
    leaves = [x.clone().requires_grad_() for x in (value, places, logits)]
    weights = leaves[2].softmax(-1).unflatten(-1, (3, 4))
    result = function(leaves[0], shapes, leaves[1], weights)
    results.append([result.detach(), *torch.autograd.grad(result.square().sum(), leaves)])
for ours, plain in zip(*results, strict=True):
    torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-3)
print("computes what plain PyTorch does, gradients too")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument(
        "--torch", metavar="VERSION", help="version of torch (default: as pinned in requirements/lock.txt)"
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter (default: this one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "venv", *BIN.parts[-1:], "python")
        uv = [*UV, "pip", "install", "--quiet", "--python", str(python)]
        run([*UV, "venv", "--quiet", "--python", arguments.python, str(Path(folder, "venv"))])
        bare = {**os.environ, "PATH": str(python.parent)}
        for name in ("CC", "CXX", "CUDA_HOME", "CUDA_PATH", "PYTHONPATH", "VIRTUAL_ENV"):
            bare.pop(name, None)
        if arguments.torch:
            needs = ["--override", str(ROOT / "requirements/overrides.txt"), "-r", str(ROOT / "requirements/lock.in")]
            run([*uv, f"torch=={arguments.torch}", *needs], bare)
        else:
            run([*uv, "--no-deps", "-r", str(PINNED)], bare)
        run([*uv, *NO_ISOLATION, *DETECTRON2_OPTIONS, "-r", str(DETECTRON2)], bare)
        run([*uv, "--no-deps", str(arguments.wheel.resolve())], bare)
        run([str(python), "-m", "mask2former.ops"], bare, folder)
        run([str(python), "-c", CHECK], bare, folder)


def run(command: list[str], environment: dict[str, str] | None = None, folder: str | None = None) -> None:
    code = subprocess.run(command, env=environment, cwd=folder).returncode
    if code:
        sys.exit(f"wheel: this command failed with exit status {code}: {' '.join(command[:6])} ...")


if __name__ == "__main__":
    main()
