#!/usr/bin/env python3
"""Compare the pinned packages with the public lists of known faults, with pip-audit.

pip-audit is fetched for this run alone and leaves no trace in .venv. Exits with 1 if a package has a known fault, and
with 2 if the comparison cannot be made, such as without a network.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "lock.txt"
FAULTS, UNREACHED = 1, 2


def audit(command: list[str], lock: Path) -> int:
    """Run pip-audit, as ``command`` starts it, on a file of pinned requirements, and return the exit status.

    pip-audit ends with 0 too where its list knows none of the packages, as behind a mirror that serves no faults; each
    is then "skipped", which counts as not compared here.
    """
    options = [
        "--requirement",
        str(lock),
        "--no-deps",
        "--disable-pip",
        "--progress-spinner",
        "off",
        "--format",
        "json",
    ]
    try:
        done = subprocess.run([*command, *options], capture_output=True, text=True)
    except FileNotFoundError:
        print(f"{command[0]} is not installed: run make setup first.", file=sys.stderr)
        return UNREACHED
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(done.stderr.strip(), file=sys.stderr)
        print(
            f"{lock.name} could not be compared with the list of faults. Is there a network connection?",
            file=sys.stderr,
        )
        return UNREACHED
    skipped = [package for package in packages if "skip_reason" in package]
    faulty = [package for package in packages if package.get("vulns")]
    for package in faulty:
        for fault in package["vulns"]:
            mended = ", ".join(fault.get("fix_versions", [])) or "no version yet"
            print(f"{package['name']} {package['version']}: {fault['id']}, fixed in {mended}")
    print(f"{len(packages) - len(skipped)} of {len(packages)} packages compared, {len(faulty)} with known faults.")
    if skipped:
        print(f"Not compared, such as {skipped[0]['name']}: {skipped[0]['skip_reason']}", file=sys.stderr)
        print("Their faults are unknown. Is the public list of faults reachable from here?", file=sys.stderr)
    if faulty:
        return FAULTS
    return 0 if packages and not skipped else UNREACHED


if __name__ == "__main__":
    uv = Path(sys.executable).parent / "uv"
    sys.exit(audit([str(uv), "tool", "run", "pip-audit"], LOCK))
