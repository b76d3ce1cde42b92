"""Make the .venv that the Makefile's commands run in. Needs nothing but Python, a C++ compiler and a package registry.

Four steps, each done again only when what it depends on has changed: the pinned packages, Detectron2, its mending for
today's NumPy and Pillow, this package with its compiled operator.

The packages are those of requirements/lock.txt, or with --for run those of run.txt, a part of it without tests, linters
and exporting; on a machine without an NVIDIA GPU then without Triton too, which compiles for GPUs alone. An environment
that holds all of them serves for both. UV_TORCH_BACKEND=cpu takes PyTorch's build for CPUs, and none of CUDA's
packages, where its own index can be reached; the version of the lock has to be there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # nothing is installed yet
from mask2former_cli.detectron2_release import NO_ISOLATION, REQUIREMENTS, UV, UV_OPTIONS  # imports little

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
DONE = VENV / "installed.json"
PYTHONS = [(3, 12), (3, 13), (3, 11), (3, 10)]  # supported ones, the preferred first

PINNED = {"all": ROOT / "requirements" / "lock.txt", "run": ROOT / "requirements" / "run.txt"}
CUDA_PACKAGES = ("nvidia-", "cuda-", "triton")
PATCH = [ROOT / "mask2former_cli" / "patch_detectron2.py", ROOT / "mask2former_cli" / "lazy_torchvision.py"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--force", action="store_true", help="do every step again")
    parser.add_argument("--for", dest="purpose", choices=list(PINNED), default="all", help="packages [%(default)s]")
    options = parser.parse_args()
    force = options.force

    started = time.perf_counter()
    done: dict[str, str] = {} if force or not DONE.exists() else json.loads(DONE.read_text())
    if not (BIN / "python").exists():
        done = {}
        make_venv()
    build_inputs = [ROOT / "setup.py", ROOT / "pyproject.toml", *sorted((ROOT / "mask2former/ops/csrc").glob("*"))]
    backend = os.environ.get("UV_TORCH_BACKEND", "")
    pinned = digest([PINNED["all"], PINNED["run"]]) + backend
    requirements = VENV / "requirements.txt"
    has_all = (BIN / "python").exists() and done.get("packages") == pinned + "all"
    purpose = "all" if has_all else options.purpose
    detectron2 = digest([REQUIREMENTS]) + pinned
    # The library depends on the torch it was built against, and on this checkout.
    package = digest(build_inputs) + pinned + str(ROOT)
    install = [BIN / "uv", "pip", "install", "--quiet", "--python", BIN / "python"]
    with_detectron2 = [*install, *NO_ISOLATION, *UV_OPTIONS, "-r", REQUIREMENTS]
    steps = [
        ("packages", pinned + purpose, "pinned packages", [*install, "--no-deps", "-r", requirements]),
        ("detectron2", detectron2, "Detectron2 0.6", with_detectron2),
        ("patch", digest(PATCH) + detectron2, "mending it", [BIN / "python", ROOT / "tools/patch_detectron2.py"]),
        ("package", package, "mask2former and its operator", [*install, *NO_ISOLATION, "-e", ROOT]),
    ]
    leave_out = left_out(purpose, backend)
    requirements.write_text(without(PINNED[purpose].read_text(), leave_out))
    for name, wanted, words, command in steps:
        if done.get(name) == wanted:
            continue
        print(f"setup: {words} ...", flush=True)
        run(command)
        done[name] = wanted
        DONE.write_text(json.dumps(done))
        print(f"setup: {words}: done, {time.perf_counter() - started:.0f} s so far", flush=True)


def make_venv() -> None:
    python = find_python()
    print(f"setup: .venv with {python} ...", flush=True)
    run([python, "-m", "venv", "--clear", VENV], "On Debian and Ubuntu: apt install python3-venv")
    run([BIN / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV])


def left_out(purpose: str, backend: str, has_gpu: bool | None = None) -> tuple[str, ...]:
    """Return beginnings of the names of packages that this machine has no use for.

    Args:
        purpose: "all", for tests too, which try what compiles for GPUs; or "run".
        backend: uv's choice of PyTorch's build, such as "cpu"; "" for that of the package registry.
        has_gpu: an NVIDIA GPU is here, or will be (FORCE_CUDA=1, as for images); looked up if None.
    """
    if backend == "cpu":
        return CUDA_PACKAGES
    if has_gpu is None:
        forced = os.environ.get("FORCE_CUDA", "0") not in ("", "0")  # as setup.py reads it
        has_gpu = forced or shutil.which("nvidia-smi") is not None or Path("/dev/nvidia0").exists()
    return ("triton",) if purpose == "run" and not has_gpu else ()


def without(requirements: str, names: tuple[str, ...]) -> str:
    """Return the lines of requirements that do not begin with any of these names."""
    return "".join(line for line in requirements.splitlines(keepends=True) if not line.startswith(names or "\0"))


def find_python() -> str:
    """Return this interpreter if its version is supported, else the first supported one on the PATH."""
    if sys.version_info[:2] in PYTHONS:
        return sys.executable
    for major, minor in PYTHONS:
        if found := shutil.which(f"python{major}.{minor}"):
            return found
    versions = ", ".join(f"{major}.{minor}" for major, minor in sorted(PYTHONS))
    sys.exit(f"setup: Python {versions} is needed; this is {sys.version.split()[0]} and no other is on the PATH.")


def run(command: Iterable[str | Path], hint: str = "") -> None:
    words = [str(word) for word in command]
    code = subprocess.run(words, cwd=ROOT).returncode
    if code:
        sys.exit(
            f"setup: this command failed with exit status {code}; its output is above.\n  {' '.join(words)}\n{hint}"
        )


def digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(file.name.encode())
        total.update(file.read_bytes())
    return total.hexdigest()


if __name__ == "__main__":
    main()
