"""Step 1: build the operator for the GPU that is there, put it in place, and read its kernels' limits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from check_cuda_build import ASK

from gpu_steps.kernels import disassemble, instructions, resources, to_json
from gpu_steps.record import LONGEST, Context, Record

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "mask2former" / "ops"


def run(context: Context, record: Record) -> None:
    capability = context.machine.get("capability", "9.0")  # without a GPU, compile for this one to read its limits
    with_cuda = context.device == "cuda" or (shutil.which("nvcc") is not None and torch.version.cuda is not None)
    record.note(capability=capability, cuda=with_cuda)
    built, log = compiled(context, capability, with_cuda, record)
    place = context.device == "cuda" or not (PLACE / "libmask2former_cpu.so").exists()
    if place:
        for library in built.glob("*.so"):
            shutil.copy(library, PLACE / f"{library.name}.new")
            os.replace(PLACE / f"{library.name}.new", PLACE / library.name)
    record.note(placed=place)
    if not with_cuda:
        return
    loaded = subprocess.run([sys.executable, "-c", ASK, str(built)], capture_output=True, text=True)
    if loaded.returncode:
        raise RuntimeError(f"the library does not load, or lacks kernels:\n{loaded.stderr[-LONGEST:]}")
    kernels = resources(log, capability)
    assembly = disassemble(built / "libmask2former_cuda.so")
    if assembly is None:
        record.note(instructions="no cuobjdump here")
    for kernel, facts in instructions(assembly or "").items():
        kernels.setdefault(kernel, {}).update(facts)
    record.add("kernels", kernels=to_json(kernels))


def compiled(context: Context, capability: str, with_cuda: bool, record: Record) -> tuple[Path, str]:
    """Return the folder of the libraries and what the compilers printed."""
    folder = Path(context.work, "built")
    environment = {
        **os.environ,
        "FORCE_CUDA": str(int(with_cuda)),
        "MASK2FORMER_NO_EXT": "0",
        "TORCH_CUDA_ARCH_LIST": capability,
        "NVCC_APPEND_FLAGS": "-Xptxas -v",
    }
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(folder), "--build-temp", f"{folder}/temp"]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    log = done.stdout + done.stderr
    if done.returncode:
        raise RuntimeError(f"the operator does not compile:\n{log[-LONGEST:]}")
    seconds = time.perf_counter() - started
    warnings = [line.strip()[:300] for line in log.splitlines() if "warning" in line.lower() and "csrc" in line]
    record.add("compile", seconds=seconds, warnings=warnings)
    return folder / "mask2former" / "ops", log
