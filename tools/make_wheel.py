"""Build the wheel into dist/ and say what is in it.

One wheel serves every Python from 3.10 and every torch from 2.10 on this kind of system. It holds the operator for CPUs
and, where nvcc fits torch (setup.py tells), the one for all common generations of GPUs, whichever this machine has.
FORCE_CUDA=0 leaves CUDA out, FORCE_CUDA=1 insists on it; TORCH_CUDA_ARCH_LIST chooses the generations.
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
        folder.mkdir(parents=True, exist_ok=True)
        wheel = folder / built.name
        wheel.write_bytes(built.read_bytes())
    said = [line for line in done.stderr.splitlines() if line.startswith("mask2former: ")]
    print("\n".join([*said, f"wheel: {wheel} ({wheel.stat().st_size / 2**20:.1f} MiB)"]))
    for name in compiled(wheel):
        print(f"  holds {name}")


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
