"""Make the .venv that the Makefile's commands run in. Needs nothing but Python, a C++ compiler and a package registry.

Four steps, each done again only when what it depends on has changed: the pinned packages; Detectron2, its mending for
today's NumPy and Pillow, this package. Its operator is compiled meanwhile, from when PyTorch is there.

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
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
    patch = digest(PATCH) + detectron2
    leave_out = left_out(purpose, backend)
    requirements.write_text(without(PINNED[purpose].read_text(), leave_out))

    @contextmanager
    def step(name: str, wanted: str, words: str) -> Iterator[None]:
        print(f"setup: {words} ...", flush=True)
        yield
        done[name] = wanted
        DONE.write_text(json.dumps(done))
        print(f"setup: {words}: done, {time.perf_counter() - started:.0f} s so far", flush=True)

    if done.get("packages") != pinned + purpose:
        with step("packages", pinned + purpose, "pinned packages"):
            run([*install, "--no-deps", "-r", requirements])
    with compiling_operator(wanted=done.get("package") != package) as compiled:
        if done.get("detectron2") != detectron2:
            with step("detectron2", detectron2, "Detectron2 0.6"):
                run(with_detectron2)
        if done.get("patch") != patch:
            with step("patch", patch, "mending it"):
                run([BIN / "python", ROOT / "tools/patch_detectron2.py"])
        if done.get("package") != package:
            with step("package", package, "mask2former and its operator"):
                run([*install, *NO_ISOLATION, "-e", ROOT], environment={"MASK2FORMER_NO_EXT": "1"})
                compiled()


@contextmanager
def compiling_operator(wanted: bool) -> Iterator[Callable[[], None]]:
    """Compile the operator into the checkout in a process of its own; yield a function that waits for its end.

    What it says is shown where it failed. Left early, by another step's failure, it is ended.
    """
    if not wanted or os.environ.get("MASK2FORMER_NO_EXT", "0") not in ("", "0"):
        yield lambda: None
        return
    with tempfile.TemporaryDirectory() as scratch:
        command = [BIN / "python", "setup.py", "-q", "build_ext", "--inplace"]
        command += ["--build-temp", f"{scratch}/temp", "--build-lib", f"{scratch}/lib"]
        words = [str(word) for word in command]
        with Path(scratch, "said.txt").open("w+", encoding="utf-8") as said:
            process = subprocess.Popen(words, cwd=ROOT, stdout=said, stderr=said, start_new_session=True)

            def wait() -> None:
                if code := process.wait():
                    said.seek(0)
                    sys.exit(f"{said.read()}\nsetup: the operator was not built (exit status {code}); see above.")

            try:
                yield wait
            finally:
                if process.poll() is None:
                    if hasattr(os, "killpg"):
                        os.killpg(process.pid, signal.SIGTERM)
                    else:
                        process.terminate()
                    process.wait()


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


def run(command: Iterable[str | Path], hint: str = "", environment: dict[str, str] | None = None) -> None:
    words = [str(word) for word in command]
    code = subprocess.run(words, cwd=ROOT, env={**os.environ, **(environment or {})}).returncode
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
