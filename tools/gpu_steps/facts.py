"""Collect facts about the machine: ``python -m gpu_steps.facts cuda`` prints JSON."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from typing import Any

PACKAGES = ("torch", "numpy", "transformers", "timm", "triton", "pb1-detectron2", "deformops", "hotcoco")


def collect(device: str) -> dict[str, Any]:
    import torch

    from mask2former.measure.machine import describe

    facts: dict[str, Any] = dict(describe(torch.device(device)))
    facts["packages"] = {name: version for name in PACKAGES if (version := _version(name))}
    facts["torch's CUDA"] = torch.version.cuda
    facts["nvcc"] = _last_word("nvcc", "--version", line="release")
    facts["revision"] = _last_word("git", "describe", "--always", "--dirty") or "not known"
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts |= {
            "capability": f"{properties.major}.{properties.minor}",
            "memory, GiB": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
            "L2 cache, MiB": round(properties.L2_cache_size / 2**20, 1),
            "driver": _last_word("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
            "compute-sanitizer": _last_word("compute-sanitizer", "--version", line="version"),
        }
    return facts


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _last_word(*command: str, line: str = "") -> str | None:
    """Return the last word of the output's last line that contains ``line``; None without such a program or line."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [one for one in done.stdout.splitlines() if line.lower() in one.lower() and one.strip()]
    return lines[-1].split()[-1] if done.returncode == 0 and lines else None


if __name__ == "__main__":
    print(json.dumps(collect(sys.argv[1])))
