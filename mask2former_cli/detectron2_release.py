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
NO_ISOLATION = ("--no-deps", "--no-build-isolation")
# Options of its build: Python files alone, without the step that compiles.
_BUILD = ("--global-option=build_py", "--build-option=--skip-build")
UV_OPTIONS = (*(f"-C={option}" for option in _BUILD), "--require-hashes")
PIP_OPTIONS = ("--use-pep517", *(f"--config-settings={option}" for option in _BUILD), "--require-hashes")


class InstallError(Exception):
    """Raised where Detectron2 cannot be installed; the message says what to do."""


def commands() -> list[list[str]]:
    """Return the commands that install what Detectron2 needs, and then itself, for this Python.

    Raises:
        InstallError: neither pip nor uv is here.
    """
    if importlib.util.find_spec("pip"):
        install, options = [sys.executable, "-m", "pip", "install"], PIP_OPTIONS
    elif uv := shutil.which("uv"):
        install, options = [uv, "pip", "install", "--python", sys.executable], UV_OPTIONS
    else:
        raise InstallError(f"neither pip nor uv is here: {sys.executable} -m ensurepip brings pip.")
    return [
        [*install, *NEEDS, *BUILD_NEEDS],
        [*install, *NO_ISOLATION, *options, "-r", str(REQUIREMENTS)],
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
