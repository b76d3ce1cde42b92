"""Turn the JSON files of a run into docs/gpu.md, whose prose is in page.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gpu_steps import tables

STEPS = ("build", "operator_tests", "operator_times", "gpu_tests", "inference", "training", "scores")


def write_page(results: Path, page: Path) -> None:
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(read(results)), encoding="utf-8")


def read(results: Path) -> dict[str, dict[str, Any]]:
    """Return the contents of the existing files by step, in the order of the steps, with others after them."""
    found = {file.stem: json.loads(file.read_text()) for file in sorted(results.glob("*.json"))}
    if not found:
        raise SystemExit(f"gpu_check: --report {results} holds no JSON file of a step; --out FOLDER of a run is meant.")
    known = {name: found[name] for name in STEPS if name in found}
    return {**known, **{name: content for name, content in found.items() if name not in known}}


def render(steps: dict[str, dict[str, Any]]) -> str:
    """Return the page. Times of a rehearsal are left out, because they mean nothing at tiny sizes."""
    machine = next((one["machine"] for one in steps.values() if one.get("machine")), {})
    on_gpu = "capability" in machine
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    build = steps.get("build", {})
    text = environment.get_template("page.md").render(
        on_gpu=on_gpu,
        machine=tables.machine(machine),
        versions=", ".join(f"{name} {version}" for name, version in machine.get("packages", {}).items()),
        device=machine.get("device", "not known"),
        capability=build.get("notes", {}).get("capability", ""),
        steps=tables.steps(steps),
        failures=tables.failures(steps),
        operator=tables.operator(steps.get("operator_times", {})) if on_gpu else "",
        limits=tables.limits(steps.get("operator_times", {})) if on_gpu else "",
        tests=tables.tests(steps),
        inference=tables.inference(steps.get("inference", {})) if on_gpu else "",
        training=tables.training(steps.get("training", {})) if on_gpu else "",
        scores=tables.scores(steps.get("scores", {})) if on_gpu else "",
        kernels=tables.kernels(build),
        work=tables.work(),
    )
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
