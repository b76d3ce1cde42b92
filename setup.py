"""Build the operator's libraries; pyproject.toml describes the package.

Environment:
    MASK2FORMER_NO_EXT=1   install without compiled code; the operator then runs in plain PyTorch
    FORCE_CUDA=1 or 0      build the CUDA library or do not, whether a GPU is visible or not
    TORCH_CUDA_ARCH_LIST   the GPU architectures to build for, e.g. "8.0;9.0+PTX"
    MASK2FORMER_ALL_GPUS=1 build for all common architectures even if this machine shows a GPU (for wheels)
    MAX_JOBS               number of compilers that run at a time

The libraries use only PyTorch's stable ABI and hold no Python symbols. So they need few of PyTorch's headers (the CPU
library compiles in seconds, and no CUDA headers are needed beside the compiler's own), and one build serves every
Python version and every torch from 2.10 on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

try:
    from setuptools import Extension, setup
    from setuptools.command.bdist_wheel import bdist_wheel
    from setuptools.command.build_ext import build_ext
    from setuptools.command.build_py import build_py
    from setuptools.errors import BaseError, CompileError, LinkError
except ImportError:  # with --no-build-isolation, pip does not check the versions in pyproject.toml
    sys.exit("mask2former: setuptools is too old to build this package: pip install -U 'setuptools>=77' wheel")


def find_toolkit() -> None:
    """Ask nvcc where its toolkit is. PyTorch takes the folder above nvcc's, which is wrong if nvcc is a script."""
    if not {"CUDA_HOME", "CUDA_PATH"} & os.environ.keys() and shutil.which("nvcc"):
        plan = subprocess.run(["nvcc", "--dryrun", "none.cu"], capture_output=True, text=True).stderr
        if found := re.search(r"TOP=(.+)", plan):
            os.environ["CUDA_HOME"] = str(Path(found.group(1).strip()).resolve())


def is_set(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


# Installers run this file up to three times, to ask for metadata and to build; torch takes seconds to import.
ASKS_FOR_METADATA = {"egg_info", "dist_info", "sdist"} & set(sys.argv) and not any(
    word.startswith(("build", "bdist", "install", "develop", "editable_wheel")) for word in sys.argv[1:]
)
torch = None
if not ASKS_FOR_METADATA and not is_set("MASK2FORMER_NO_EXT"):
    find_toolkit()  # before the import of torch, which reads CUDA_HOME
    try:
        import torch
        from torch.utils import cpp_extension
    except ImportError:
        pass

CSRC = Path("mask2former/ops/csrc")
HEADERS = [str(path) for path in sorted(CSRC.glob("*.h"))]
CPU_SOURCES = ["cpu_avx512", "cpu_avx2", "cpu_baseline", "ms_deform_attn_cpu", "schema"]  # compiled at a time by ninja
STABLE_ABI = "0x020a000000000000"  # torch 2.10's: the sources use nothing newer
GPU_GENERATIONS = ["7.5", "8.0", "8.6", "9.0", "10.0", "12.0"]  # for machines that show no GPU while building


class BuildFailed(SystemExit):
    """Raised to end the build with a reason and a way out, without a traceback."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"\nmask2former: the operator was not built: {reason}\n"
            "Ways out, other than mending that:\n"
            "  FORCE_CUDA=0          leaves out the CUDA operator and builds the one for CPUs\n"
            "  MASK2FORMER_NO_EXT=1  installs without compiled code; the operator then runs in plain PyTorch, several\n"
            "                        times slower"
        )


def nvcc_version() -> str | None:
    """Return the version of the toolkit that PyTorch's build tools use, such as "13.0"; None if there is none."""
    nvcc = Path(cpp_extension.CUDA_HOME or "", "bin", "nvcc.exe" if os.name == "nt" else "nvcc")
    if cpp_extension.CUDA_HOME is None or not nvcc.exists():
        return None
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"release (\d+\.\d+)", text)
    return found.group(1) if found else None


def cuda_is_wanted() -> bool:
    """Tell whether to build for the GPU that is present, or for all (``FORCE_CUDA``, ``MASK2FORMER_ALL_GPUS``).

    The CUDA library takes about half a minute of one core for each generation of GPUs, so on a machine without a GPU it
    is built only on request, for images and wheels.
    """
    if "FORCE_CUDA" in os.environ and not is_set("FORCE_CUDA"):
        return False
    if not (is_set("FORCE_CUDA") or is_set("MASK2FORMER_ALL_GPUS") or torch.cuda.is_available()):
        print("mask2former: no CUDA operator: no GPU is visible; FORCE_CUDA=1 builds it all the same.", file=sys.stderr)
        return False
    toolkit, ours = nvcc_version(), torch.version.cuda
    if ours is None:
        missing = f"this torch ({torch.__version__}) is built without CUDA"
    elif toolkit is None:
        missing = "there is no CUDA toolkit (nvcc); CUDA_HOME says where it is"
    elif toolkit.split(".")[0] != ours.split(".")[0]:
        missing = f"the CUDA toolkit is version {toolkit}, torch's is {ours}; their first numbers have to be the same"
    else:
        return True
    if is_set("FORCE_CUDA"):
        raise BuildFailed(f"FORCE_CUDA is set, but {missing}.")
    print(f"mask2former: no CUDA operator: {missing}.", file=sys.stderr)
    return False


def extensions() -> list[Extension]:
    flags = ["/O2", "/std:c++17"] if os.name == "nt" else ["-O3", "-std=c++17", "-fvisibility=hidden"]
    # Without these two, the compiler keeps loops scalar to preserve errno and floating point exceptions.
    cpu_flags = flags if os.name == "nt" else [*flags, "-fno-math-errno", "-fno-trapping-math"]
    macros = [("TORCH_TARGET_VERSION", STABLE_ABI)]
    cpu = cpp_extension.CppExtension(
        "mask2former.ops.libmask2former_cpu",
        [str(CSRC / f"{name}.cpp") for name in CPU_SOURCES],
        define_macros=macros,
        extra_compile_args=cpu_flags,
        depends=HEADERS,
        py_limited_api=True,  # leaves Python's library out
    )
    if not cuda_is_wanted():
        return [cpu]
    all_gpus = is_set("MASK2FORMER_ALL_GPUS") or not torch.cuda.is_available()
    if "TORCH_CUDA_ARCH_LIST" not in os.environ and all_gpus:
        os.environ["TORCH_CUDA_ARCH_LIST"] = default_architectures()
    cuda = cpp_extension.CUDAExtension(
        "mask2former.ops.libmask2former_cuda",
        [str(CSRC / "ms_deform_attn_cuda.cu")],
        define_macros=[*macros, ("USE_CUDA", None)],
        extra_compile_args={"cxx": flags, "nvcc": ["-O3", "-std=c++17", "--threads=2"]},
        depends=HEADERS,
        py_limited_api=True,
    )
    return [cpu, cuda]


def default_architectures() -> str:
    """Return the architectures that the compiler knows, the last also as PTX, which newer GPUs translate."""
    nvcc = Path(cpp_extension.CUDA_HOME, "bin", "nvcc")
    text = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout
    known = [arch for arch in GPU_GENERATIONS if f"compute_{arch.replace('.', '')}" in text.split()]
    if not known:
        raise BuildFailed(f"{nvcc} builds for none of {', '.join(GPU_GENERATIONS)}; set TORCH_CUDA_ARCH_LIST.")
    return ";".join(known) + "+PTX"


class WithoutTorch(build_ext):
    """Fail to build the operator, which needs torch; metadata and source archives do not."""

    def run(self) -> None:
        raise BuildFailed(
            "building needs torch. Install torch first, then use `pip install --no-build-isolation .` "
            "so that pip builds with it."
        )


class PlainLibraries(cpp_extension.BuildExtension if torch else WithoutTorch):  # type: ignore[misc]
    """Build libraries that torch.ops loads: not Python modules, so without Python's version in the name or exports."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []

    def build_extensions(self) -> None:
        try:
            super().build_extensions()
        except (BaseError, CompileError, LinkError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
            raise BuildFailed(
                f"{type(error).__name__}: {error}\nThe compiler's own words are above. Where there is no compiler, "
                "get one that knows C++17: `apt install g++` on Debian and Ubuntu, `xcode-select --install` on macOS."
            ) from error


class AnyPython(bdist_wheel):
    """Tag the wheel for the system, but any Python version."""

    def get_tag(self) -> tuple[str, str, str]:
        platform = super().get_tag()[2]
        return ("py3", "none", platform)


class WithConfigs(build_py):
    """Install the configurations too, because a published model's name stands for one."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.copy_tree("configs", str(Path(self.build_lib, "mask2former", "configs")))


if is_set("MASK2FORMER_NO_EXT"):
    print("mask2former: MASK2FORMER_NO_EXT is set: installing without the compiled operator.", file=sys.stderr)
    setup(cmdclass={"build_py": WithConfigs})
else:
    setup(
        ext_modules=extensions() if torch else [Extension("mask2former.ops.libmask2former_cpu", sources=[])],
        cmdclass={
            "build_py": WithConfigs,
            "build_ext": PlainLibraries if torch else WithoutTorch,
            "bdist_wheel": AnyPython,
        },
    )
