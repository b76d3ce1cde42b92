"""Judge this project on a GPU: one command that needs no network and nothing installed but PyTorch and a CUDA toolkit.

Seven steps in order of worth: build the operator for this GPU, its tests, its times, the tests that need a GPU,
inference, training, scores. Each runs in a process of its own within a limit of its own, and writes OUT/STEP.json as it
goes, so that a run that is cut off tells what it found until then; a step that fails never stops the next.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gpu_steps.runner import Run, Step, run_steps

ROOT = Path(__file__).resolve().parents[1]
STEPS = [  # the last two numbers: shares of the time on a GPU, and in a rehearsal, where compiling is the slowest
    Step("build", "the operator, built for this GPU", "gpu_steps.build:run", 20, 60),
    Step("operator_tests", "the operator's tests, and under compute-sanitizer", "gpu_steps.operator_tests:run", 22, 20),
    Step("operator_times", "the operator's times", "gpu_steps.operator_times:run", 14, 15),
    Step("gpu_tests", "the other tests that need a GPU", "gpu_steps.gpu_tests:run", 8, 15),
    Step("inference", "inference", "gpu_steps.inference:run", 20, 25),
    Step("training", "a training step", "gpu_steps.training:run", 18, 20),
    Step("scores", "trainings, and their scores", "gpu_steps.scores:run", 18, 25),
]
EXAMPLES = """
  make gpu-bundle                                              here: packs what the GPU machine lacks
  python3 tools/gpu_check.py --bundle dist/gpu-bundle --out FOLDER --minutes 8      there
  python3 tools/gpu_check.py --report FOLDER                   writes docs/gpu.md of what was found
  python3 tools/gpu_check.py --out FOLDER --device cpu --minutes 3                  rehearses, at tiny sizes
"""


def main(words: list[str] | None = None) -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=f"Examples:{EXAMPLES}", formatter_class=form)
    parser.add_argument(
        "--bundle", type=Path, help="folder that make gpu-bundle wrote (default: use the installed packages)"
    )
    parser.add_argument("--out", type=Path, help="folder for the results, one file for each step")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="time limit of all steps together (default: %(default)s)"
    )
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], default="cuda", help="cpu: rehearse at tiny sizes (default: %(default)s)"
    )
    parser.add_argument("--steps", nargs="+", choices=[step.name for step in STEPS], help="steps to run (default: all)")
    words_of_report = "write --page from the results in these folders, the earliest run first"
    parser.add_argument("--report", type=Path, nargs="+", metavar="DIR", help=words_of_report)
    parser.add_argument(
        "--page", type=Path, default=ROOT / "docs" / "gpu.md", help="page to write (default: %(default)s)"
    )
    options = parser.parse_args(words)
    if options.report:
        from gpu_steps.report import write_page  # its libraries may only be in the bundle, which a run installs

        write_page(options.report, options.page)
        print(f"written: {options.page}")
        return 0
    if options.out is None:
        parser.error("--out FOLDER is needed (or --report FOLDER).")
    options.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the step that runs is ended too
    with tempfile.TemporaryDirectory() as work:
        environment = environment_for(options.bundle, Path(work), options.device)
        machine = facts(options.device, environment)
        run = Run(options.out.resolve(), Path(work), options.device, options.minutes, environment, machine)
        contents = run_steps([step for step in STEPS if step.name in (options.steps or [step.name])], run)
    bad = [one["step"] for one in contents if not went_well(one)]
    print(
        f"gpu_check: {len(contents)} steps, in {options.out}; " + (f"look at {', '.join(bad)}" if bad else "all well")
    )
    return 1 if bad else 0


def went_well(content: dict[str, Any]) -> bool:
    return content["status"] == "done" and not any("error" in result for result in content["results"])


def environment_for(bundle: Path | None, work: Path, device: str) -> dict[str, str]:
    """Return the variables under which the bundle, this checkout and its tools are found, the bundle first."""
    folders = [ROOT / "tools", ROOT]
    if bundle is not None:
        wheels = sorted(bundle.glob("*.whl"))
        if not wheels:
            sys.exit(f"gpu_check: --bundle {bundle} holds no wheels; `make gpu-bundle` makes one.")
        site = work / "site"
        options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--target", site]
        subprocess.run([sys.executable, "-m", "pip", "install", *options, *wheels], check=True)
        folders.insert(0, site)
    inherited = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    # A rehearsal shares its processor with others: threads that wait for each other would take most of the time.
    threads = {"OMP_NUM_THREADS": "1"} if device == "cpu" else {}
    return {
        **os.environ,
        **threads,
        "PYTHONPATH": os.pathsep.join([*map(str, folders), *inherited]),
        # ninja and other programs lie beside the interpreter, which may have been called by its full path.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONUNBUFFERED": "1",
    }


def facts(device: str, environment: dict[str, str]) -> dict[str, object]:
    """Collect facts in a process of its own, since this one does not load PyTorch; end the run without the device."""
    command = [sys.executable, "-m", "gpu_steps.facts", device]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"gpu_check: PyTorch does not see the device {device} here:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    print(", ".join(f"{key} {value}" for key, value in found.items()), flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
