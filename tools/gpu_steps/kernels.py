"""Read the limits of the operator's kernels from compiled code: registers, spills, shared memory, instructions."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

THREADS = 256  # threads in a block: THREADS_PER_BLOCK in cuda_samples.h
DTYPES = {"f": "float32", "d": "float64", "Half": "float16", "BFloat16": "bfloat16"}


@dataclass(frozen=True)
class Multiprocessor:
    """Limits of a multiprocessor (CUDA C++ Programming Guide, table of technical specifications).

    They are 32-bit registers, warps, blocks, and bytes of shared memory, of which each block takes 1 KiB for the
    system. Registers are allocated to a warp in units of 256; each of the four parts serves every fourth warp.
    """

    warps: int
    blocks: int
    shared: int
    registers: int = 65536


MULTIPROCESSORS = {
    "8.0": Multiprocessor(64, 32, 164 * 1024),
    "9.0": Multiprocessor(64, 32, 228 * 1024),
    "10.0": Multiprocessor(64, 32, 228 * 1024),
}


@dataclass(frozen=True)
class Kernel:
    """A kernel, identified by its template arguments.

    Attributes:
        name: forward, backward, largest or convert.
        form: classic or fused; "" if both use it.
        dtype: dtype of value.
        channels: number of neighbouring channels that a lane reads at a time; 0 if it reads none.
        sums: how gradients are added: floating (any order), fixed (deterministic), or "" in other kernels.
    """

    name: str
    form: str
    dtype: str
    channels: int
    sums: str

    @classmethod
    def of(cls, mangled: str) -> Kernel | None:
        """Parse a mangled name; return None for a kernel that is not ours."""
        found = re.search(r"\d(forward|backward|largest|convert)_kernelI(.+?)EE?v", mangled)
        if found is None:
            return None
        name, arguments = found.groups()
        dtype = re.search(r"BFloat16|Half|(?<=I)[fd](?=E)|^[fd]", arguments)
        lanes = re.search(r"Li(\d+)E", arguments)
        form = "fused" if "Fused" in arguments else "classic" if "Classic" in arguments else ""
        sums = "floating" if "FloatingSum" in arguments else "fixed" if "FixedSum" in arguments else ""
        return cls(name, form, DTYPES[dtype.group() if dtype else "f"], int(lanes.group(1)) if lanes else 0, sums)

    def __str__(self) -> str:
        words = [self.form, self.name, self.dtype, f"x{self.channels}" * bool(self.channels)]
        return " ".join(word for word in [*words, self.sums.replace("floating", "")] if word)


def occupancy(registers: int, shared: int, capability: str, threads: int = THREADS) -> float | None:
    """Return the share of a multiprocessor's warps that can be resident at once; None for an unknown GPU."""
    limits = MULTIPROCESSORS.get(capability)
    if limits is None:
        return None
    warps = threads // 32
    of_a_warp = -(-max(registers, 1) * 32 // 256) * 256
    by_registers = limits.registers // of_a_warp // 4 * 4 // warps
    by_shared = limits.shared // (shared + 1024)
    return min(by_registers, by_shared, limits.blocks, limits.warps // warps) * warps / limits.warps


def resources(log: str, capability: str) -> dict[Kernel, dict[str, Any]]:
    """Parse each kernel's registers, bytes of shared memory, stack and spills from the output of ``-Xptxas -v``."""
    found: dict[Kernel, dict[str, Any]] = {}
    kernel, spills = None, (0, 0, 0)
    for line in log.splitlines():
        if entry := re.search(r"Compiling entry function '(\w+)'", line):
            kernel = Kernel.of(entry.group(1))
        elif numbers := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            spills = tuple(map(int, numbers.groups()))  # type: ignore[assignment]
        elif kernel and (used := re.search(r"Used (\d+) registers", line)):
            shared = re.search(r"(\d+) bytes smem", line)
            size = int(shared.group(1)) if shared else 0
            found[kernel] = {
                "registers": int(used.group(1)),
                "shared memory, bytes": size,
                **dict(zip(("stack, bytes", "spill stores, bytes", "spill loads, bytes"), spills, strict=True)),
                "occupancy": occupancy(int(used.group(1)), size, capability),
            }
            kernel = None
    return found


def instructions(assembly: str) -> dict[Kernel, dict[str, Any]]:
    """Count loads, stores and atomics of each kernel by their forms in the output of ``cuobjdump --dump-sass``."""
    found: dict[Kernel, dict[str, Any]] = {}
    for part in assembly.split("Function : ")[1:]:
        kernel = Kernel.of(part.split()[0])
        if kernel is None:
            continue
        words = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]+)", part)
        memory = Counter(_short(word) for word in words if re.match(r"LDG|STG|REDG?\.|ATOMG?\.|LDL|STL", word))
        together = loads_together(words)
        found[kernel] = {"instructions": len(words), "loads together": together, "memory": dict(sorted(memory.items()))}
    return found


def loads_together(words: list[str]) -> int:
    """Return the most 16-byte loads in a row without a branch in between.

    So many can be in flight at once for a warp, since a load after a branch waits until the one before it has been
    used.
    """
    most = here = 0
    for word in words:
        if re.match(r"BRA|BSYNC|BSSY|EXIT|WARPSYNC", word):
            here = 0
        elif word.startswith("LDG.E.128"):
            here += 1
            most = max(most, here)
    return most


def _short(word: str) -> str:
    """Drop the parts of an instruction's name about caching and visibility."""
    kept = [part for part in word.split(".") if part not in ("E", "CONSTANT", "STRONG", "GPU", "FTZ", "RN", "LU", "EL")]
    return ".".join(kept)


def disassemble(library: Path) -> str | None:
    """Return the assembly of a library or object file; None without cuobjdump."""
    program = shutil.which("cuobjdump")
    if program is None and (triton := importlib.util.find_spec("triton")) and triton.submodule_search_locations:
        packed = Path(triton.submodule_search_locations[0], "backends", "nvidia", "bin", "cuobjdump")
        program = str(packed) if packed.exists() else None
    if program is None:
        return None
    return subprocess.run([program, "--dump-sass", str(library)], capture_output=True, text=True, check=True).stdout


def to_json(found: dict[Kernel, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"kernel": str(kernel), **asdict(kernel), **facts} for kernel, facts in found.items()]
