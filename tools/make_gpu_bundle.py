"""Pack what a bare GPU machine lacks: wheels that tools/gpu_check.py installs there without a network.

Detectron2 is built and mended as `make setup` does it; the rest comes from the package registry, in the versions of
requirements/lock.txt, for the Python that is named. What is packed stands in requirements/gpu_bundle.in, what the
machine is taken to hold in requirements/gpu_machine.txt.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setup_env import BIN, PINNED

from mask2former_cli.detectron2_release import NO_ISOLATION, REQUIREMENTS, UV_OPTIONS
from mask2former_cli.patch_detectron2 import patch

ROOT = Path(__file__).resolve().parents[1]
ROOTS, HELD = ROOT / "requirements" / "gpu_bundle.in", ROOT / "requirements" / "gpu_machine.txt"
LARGEST = 40e6  # bytes, because the bundle is copied with the working tree
GLIBCS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")  # pip matches exactly


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--python", default="3.12", metavar="X.Y", help="Python version of the machine (default: %(default)s)"
    )
    parser.add_argument("--machine", default="x86_64", help="processor of the machine (default: %(default)s)")
    parser.add_argument(
        "--have", default=str(HELD), metavar="FILE|NAMES", help="packages that the machine has (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "dist" / "gpu-bundle", help="folder to write to (default: %(default)s)"
    )
    options = parser.parse_args(words)
    if not re.fullmatch(r"3\.\d+", options.python):
        parser.error(f"--python takes a version such as 3.12; found {options.python!r}.")
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    held = names_in(options.have)
    pack_detectron2(options.out)
    waiting = requirements_of(ROOTS.read_text().splitlines(), options.python)
    pins = requirements_of(PINNED["all"].read_text().splitlines(), options.python)
    packed: set[str] = set()
    while names := sorted(set(waiting) - held - packed):
        for name in names:
            wheel = fetch(waiting[name] if waiting[name].specifier else pins.get(name, waiting[name]), options)
            packed.add(name)
            waiting = {**needs_of(wheel, options.python), **waiting}
    report(options.out, options.python)


def names_in(text: str) -> set[str]:
    """Return the package names in a file, or in the text itself if there is no such file."""
    lines = Path(text).read_text().splitlines() if Path(text).is_file() else text.replace(",", " ").split()
    return {canonicalize_name(line.split("#")[0].strip()) for line in lines if line.split("#")[0].strip()}


def requirements_of(lines: list[str], python: str) -> dict[str, Requirement]:
    """Parse the requirements that apply to Linux and this Python, by canonical name."""
    there = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    found = {}
    for line in lines:
        if text := line.split("#")[0].strip():
            one = Requirement(text)
            if one.marker is None or one.marker.evaluate(there):
                found[canonicalize_name(one.name)] = one
    return found


def needs_of(wheel: Path, python: str) -> dict[str, Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        lines = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist") or []
    found = requirements_of(lines, python)
    for one in found.values():
        one.specifier = Requirement(one.name).specifier  # drop it: versions are those of the lock file
    return found


def fetch(wanted: Requirement, options: argparse.Namespace) -> Path:
    """Download a package's wheel; if there are only sources, build one, which must be for every Python."""
    words = f"{wanted.name}{wanted.specifier}"
    with tempfile.TemporaryDirectory() as folder:
        target = ["--only-binary=:all:", "--implementation", "cp", "--python-version", options.python]
        platforms = [word for glibc in GLIBCS for word in ("--platform", f"{glibc}_{options.machine}")]
        if pip(["download", *target, *platforms, "--dest", folder, words]):
            built = pip(["wheel", "--no-build-isolation", "--wheel-dir", folder, words])
            if built or not all(file.name.endswith("-none-any.whl") for file in Path(folder).iterdir()):
                sys.exit(f"gpu-bundle: {words} has no wheel for Python {options.python}, and none was built:\n{built}")
        (wheel,) = Path(folder).glob("*.whl")
        return Path(shutil.move(wheel, options.out))


def pip(words: list[str]) -> str:
    """Run pip without dependencies; return its error output if it fails, else an empty string."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", words[0], "--no-deps", *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stderr if done.returncode else ""


def pack_detectron2(out: Path) -> None:
    """Pack Detectron2 as a wheel for every Python, since it has no compiled code as installed here."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "files")
        uv = shutil.which("uv", path=BIN) or shutil.which("uv", path=Path(sys.executable).parent) or "uv"
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", folder]
        run([*command, *NO_ISOLATION, *UV_OPTIONS, "-r", REQUIREMENTS])
        if compiled := list(folder.rglob("*.so")):
            sys.exit(
                f"gpu-bundle: Detectron2 holds compiled code here, for only one Python version: {compiled[0].name}"
            )
        patch(folder / "detectron2")  # as `make setup` does
        (about,) = folder.glob("*.dist-info/WHEEL")
        about.write_text("Wheel-Version: 1.0\nGenerator: make_gpu_bundle\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        run([sys.executable, "-m", "wheel", "pack", folder, "--dest-dir", out])


def run(command: list[str | Path]) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"gpu-bundle: {' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")


def report(out: Path, python: str) -> None:
    sizes = {file.name: file.stat().st_size for file in sorted(out.iterdir())}
    for name, size in sizes.items():
        print(f"{size / 1e6:8.2f} MB  {name}")
    total = sum(sizes.values())
    print(f"gpu-bundle: {len(sizes)} wheels for Python {python}, {total / 1e6:.1f} MB, in {out}")
    print(f"There: python3 tools/gpu_check.py --bundle {out.name} --out FOLDER --minutes 8")
    if total > LARGEST:
        sys.exit(f"gpu-bundle: over {LARGEST / 1e6:.0f} MB, too much to copy: name more packages in --have.")


if __name__ == "__main__":
    main()
