"""Step 3: time the operator beside others, and beside this card's limits of copying and gathering in the same run."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import torch
from benchmarks.cases import Case
from benchmarks.contestants import CONTESTANTS, load
from benchmarks.gather import gathered, measure_gather
from benchmarks.machine import Limits, measure_limits
from benchmarks.operator import measure_operator

from gpu_steps.record import Context, Record
from mask2former.measure.timing import Patience

SIZES, DTYPES, LOCATIONS = ("2x1024x1024", "800x1067"), ("bfloat16", "float32", "float16"), ("near", "anywhere")
TINY = (("48x64",), ("float32", "bfloat16"), ("near",))


def run(context: Context, record: Record) -> None:
    device = torch.device(context.device)
    sizes, dtypes, places = TINY if context.is_tiny else (SIZES, DTYPES, LOCATIONS)
    patience = Patience(rounds=3) if context.is_tiny else Patience(seconds=0.15)
    present, absent = load(list(CONTESTANTS))
    record.note(absent=absent)
    small: dict[str, int] = {"copy_bytes": 2**20, "matrix": 64} if context.is_tiny else {}
    limits = measure_limits(device, dtypes, **small)
    gathers: dict[str, float] = {}  # stays empty if this torch cannot gather in one of the formats
    table = Case(sizes[0], "float32", "near")
    record.attempt(
        context, "gather", lambda: gathers.update(measure_gather(table, device, dtypes, patience)) or {"of": table.size}
    )
    record.note(
        limits={
            "copied, bytes a second": limits[1].bandwidth,
            "multiply-adds a second": limits[1].multiply_adds,
            "gathered, bytes a second": gathers,
        }
    )
    # deformops may compile its own code when it is first called, so it comes last and takes no time from the others.
    late = {"fused", "deformops"} if "deformops" in present else set()
    for names in (set(present) - {"deformops"}, late):
        for size, dtype, where in itertools.product(sizes, dtypes, places):
            case = Case(size, dtype, where)
            measure = functools.partial(measured, case, sorted(names), device, limits, gathers, patience)
            if names:
                record.attempt(context, f"{size} {dtype} {where}" + " with deformops" * (names == late), measure)


def measured(
    case: Case,
    names: list[str],
    device: torch.device,
    limits: dict[int, Limits],
    gathers: dict[str, float],
    patience: Patience,
) -> dict[str, Any]:
    """Return the rows of ``benchmark.py op``, each with the seconds that gathering at the card's limit would take."""
    rows, failed = measure_operator(case, names, device, limits, patience, memory=device.type == "cuda")
    told = []
    for row in rows:
        rate = gathers.get(case.dtype)
        floor = gathered(case, row.mode == "training") / rate if rate else None
        told.append({**row.to_json(), "gather_floor": floor})
    return {"rows": told, "failed": failed}
