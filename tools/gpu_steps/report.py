"""Turn the JSON files of a run into docs/gpu.md, whose prose is in page.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gpu_steps import tables

STEPS = ("build", "operator_tests", "operator_times", "gpu_tests", "inference", "training", "scores")


MEASURED = ("operator_times", "inference", "training")  # a later run of these adds to an earlier one


def write_page(results: Sequence[Path], page: Path) -> None:
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(read(results)), encoding="utf-8")


def read(results: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Return the contents of the existing files by step, in the order of the steps, with others after them.

    Of several runs, the earliest first, the last file of a step counts; of measurements, the last of each case.
    """
    found: dict[str, dict[str, Any]] = {}
    for folder in results:
        contents = {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}
        if not contents:
            raise SystemExit(
                f"gpu_check: --report {folder} holds no JSON file of a step; give the --out FOLDER of a run."
            )
        for name, content in contents.items():
            for result in content.get("results", []):
                result["card"] = content.get("machine", {}).get("device", "not known")
            found[name] = added(found[name], content) if name in found and name in MEASURED else content
    _name_cards(found)
    known = {name: found[name] for name in STEPS if name in found}
    return {**known, **{name: content for name, content in found.items() if name not in known}}


def added(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    cases = {one["case"]: one for run in (earlier, later) for one in run.get("results", [])}
    notes = {**earlier.get("notes", {}), **later.get("notes", {})}
    missed = [case for case in later.get("not reached", []) if case not in cases]
    return {**later, "results": list(cases.values()), "notes": notes, "not reached": missed}


def _name_cards(found: dict[str, dict[str, Any]]) -> None:
    """Leave the name of the card only where there are several, so that tables show it there alone."""
    cards = {result["card"] for content in found.values() for result in content.get("results", [])}
    for content in found.values():
        if len(cards) > 1:
            content["card"] = content.get("machine", {}).get("device", "not known")
        else:
            for result in content.get("results", []):
                del result["card"]


def render(steps: dict[str, dict[str, Any]]) -> str:
    """Return the page. Times of a rehearsal are left out, because they mean nothing at tiny sizes."""
    machine = next((one["machine"] for one in steps.values() if one.get("machine")), {})
    on_gpu = "capability" in machine
    cards = dict.fromkeys(one["machine"]["device"] for one in steps.values() if one.get("machine"))
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
        cards=" and ".join(cards),
        several=len(cards) > 1,
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
