"""Describe the machine on which something was measured."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def describe(device: torch.device) -> dict[str, str | int | float]:
    """Return the device's name, the number of cores, versions, and how busy the machine is (load of a minute)."""
    facts: dict[str, str | int | float] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cores": os.cpu_count() or 1,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
    }
    if hasattr(os, "getloadavg"):  # shows whether other programs were running
        facts["load"] = round(os.getloadavg()[0], 2)
    return facts


def _processor() -> str:
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()} ({torch.backends.cpu.get_cpu_capability()})"
    return platform.processor() or platform.machine()
