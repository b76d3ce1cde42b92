"""Facts about a run: machine, versions, commit."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from detectron2.utils import comm

PACKAGES = ("torch", "torchvision", "detectron2", "pb1-detectron2", "numpy", "pycocotools", "hotcoco")


def run_info(device: str, seconds: float, images: int, weights: str) -> dict[str, str]:
    """Return the facts to show, by name.

    Args:
        device: ``MODEL.DEVICE``.
        seconds: duration of the evaluation, including scoring.
        images: number of images evaluated.
        weights: name of the weights.
    """
    processes = comm.get_world_size()
    facts = {
        "Written": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "Time": f"{_duration(seconds)} for {images} images ({images / max(seconds, 1e-9):.1f} a second)",
        "Device": _device(device) + (f", {processes} processes" if processes > 1 else ""),
        "Weights": weights,
        "System": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "Packages": ", ".join(f"{name} {number}" for name in PACKAGES if (number := _version(name))),
        "Commit": git_commit(Path(__file__)) or "",
    }
    if device.startswith("cuda"):
        facts["GPU memory"] = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most"
    return {name: value for name, value in facts.items() if value}


def git_commit(file: Path) -> str | None:
    """Return the commit of the repository that tracks ``file``, marked if files have changed since.

    None if no repository tracks it: installed packages may lie inside an unrelated repository.
    """
    if _git(file.parent, "ls-files", "--error-unmatch", "--", file.name) is None:
        return None
    return _git(file.parent, "describe", "--always", "--dirty=, with changes", "--abbrev=12", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    """Run git and return its output; None if it fails."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):  # git is missing, or the disk too slow to wait for
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _device(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"{_cpu_name()}, {torch.get_num_threads()} of {os.cpu_count()} threads"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(datetime.timedelta(seconds=round(seconds)))
