"""Compile the CUDA sources without a GPU, and see that the library loads and holds the kernels."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
ASK = """
import sys, torch
for name in ("cpu", "cuda"):
    torch.ops.load_library(f"{sys.argv[1]}/libmask2former_{name}.so")
operators = [name + end for name in ("ms_deform_attn", "ms_deform_attn_fused") for end in ("", "_backward")]
for name in operators:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"mask2former::{name}", "CUDA"), name
"""


def main() -> None:
    if shutil.which("nvcc") is None and not {"CUDA_HOME", "CUDA_PATH"} & os.environ.keys():
        print("CUDA sources: skipped: no nvcc on the PATH and no CUDA_HOME.")
        return
    if torch.version.cuda is None:
        print(f"CUDA sources: skipped: torch {torch.__version__} is built without CUDA.")
        return
    started = time.perf_counter()
    # One architecture: this asks whether the code compiles, not for a wheel.
    environment = {**os.environ, "FORCE_CUDA": "1", "MASK2FORMER_NO_EXT": "0", "TORCH_CUDA_ARCH_LIST": "9.0"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "setup.py", "build_ext", "--build-lib", folder, "--build-temp", f"{folder}/temp"]
        run(command, "the sources do not compile", environment)
        run([sys.executable, "-c", ASK, f"{folder}/mask2former/ops"], "the library does not load or lacks kernels")
    print(f"CUDA sources: compiled for sm_90 in {time.perf_counter() - started:.0f} s (not run: that needs a GPU).")


def run(command: list[str], failure: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}\n{done.stderr}\nCUDA sources: {failure}; see above.")


if __name__ == "__main__":
    main()
