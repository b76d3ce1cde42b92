"""The one way to install Detectron2 0.6 from a package registry, which `make setup` and the doctor share.

The registry has its Python sources under another name. Their metadata ask for packages that no registry has, so what it
needs is listed here; their build would run a compiler on files that they lack, so it is told not to. Its set-up script
imports torch, so it is built with the torch that is installed. Nothing of its compiled code is needed here.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from mask2former_cli.findings import has_pip

REQUIREMENTS = Path(__file__).with_name("detectron2.txt")  # the pinned archive
NEEDS = (
    "torchvision",
    "yacs",
    "termcolor",
    "tabulate",
    "cloudpickle",
    "tensorboard",
    "omegaconf",
    "hydra-core",
    "matplotlib",
    "packaging",
)
BUILD_NEEDS = ("setuptools", "wheel")
UV = "uv==0.13.8"
NO_ISOLATION = ("--no-deps", "--no-build-isolation")
# Options of its build: Python files alone, without the step that compiles. uv's; today's pip refuses packages whose
# metadata name an address, as these do, even where it is told to leave out what they need.
UV_OPTIONS = ("-C=--global-option=build_py", "-C=--build-option=--skip-build", "--require-hashes")


class InstallError(Exception):
    """Raised where Detectron2 cannot be installed; the message says what to do."""


def commands() -> list[list[str]]:
    """Return the commands that install what Detectron2 needs, and then itself; uv first where it is not here.

    Raises:
        InstallError: neither uv nor pip is here.
    """
    first: list[list[str]] = []
    uv = [sys.executable, "-m", "uv"]
    if importlib.util.find_spec("uv") is None:
        if found := shutil.which("uv"):
            uv = [found]
        elif has_pip():
            first = [[sys.executable, "-m", "pip", "install", UV]]
        else:
            raise InstallError(f"neither uv nor pip is here: {sys.executable} -m ensurepip brings pip.")
    install = [*uv, "pip", "install", "--python", sys.executable]
    return [
        *first,
        [*install, *NEEDS, *BUILD_NEEDS],
        [*install, *NO_ISOLATION, *UV_OPTIONS, "-r", str(REQUIREMENTS)],
    ]


def install() -> None:
    """Run :func:`commands`, showing each.

    Raises:
        InstallError: torch is missing, or a command fails.
    """
    if importlib.util.find_spec("torch") is None:
        raise InstallError("Detectron2 is built with torch, which is not installed: pip install torch torchvision")
    for command in commands():
        print(f"$ {' '.join(command)}", flush=True)
        if code := subprocess.run(command).returncode:
            raise InstallError(f"that command ended with exit status {code}; its words are above.")
    importlib.invalidate_caches()  # so that what has been installed is found
