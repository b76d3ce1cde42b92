"""Step 6: time a training step, ours and Hugging Face's, at batch 8 and at the largest batch that fits."""

from __future__ import annotations

import functools
import gc
import time
from typing import Any

import mask2former  # noqa: F401  (mends Detectron2, so it comes first)

# isort: split
import torch
from benchmarks.training import Setting, Step, breakdown, build
from benchmarks.waits import waits_of

from gpu_steps.pytest_outcomes import ROOT
from gpu_steps.record import Context, Record
from mask2former.measure.memory import peak_of
from mask2former.measure.timing import Patience, take_turns

CONFIGS = {"r50": "coco/panoptic/r50.yaml", "swin_large": "coco/panoptic/swin_large_in21k.yaml"}
CONTESTANTS = ("ours", "huggingface")
BATCH, SIZE, OBJECTS = 8, "1024x1024", 15
USABLE = 0.92  # share of the free memory: the allocator's blocks do not fit together exactly


def run(context: Context, record: Record) -> None:
    if context.is_tiny:
        config = str(ROOT / "configs" / "quickstart" / "panoptic.yaml")
        setting = Setting(config, ("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "10"), "2x64x64", 2, "bfloat16", "cpu")
        record.attempt(context, "quickstart batch 2", functools.partial(side_by_side, setting))
        return
    for name, file in CONFIGS.items():
        setting = Setting(str(ROOT / "configs" / file), (), f"{BATCH}x{SIZE}", OBJECTS, "bfloat16", context.device)
        record.attempt(context, f"{name} batch {BATCH}", functools.partial(side_by_side, setting))
    for name, file in CONFIGS.items():
        for contestant in CONTESTANTS:
            largest = functools.partial(largest_batch, context, str(ROOT / "configs" / file), contestant)
            record.attempt(context, f"{name} largest batch, {contestant}", largest)


def side_by_side(setting: Setting) -> dict[str, Any]:
    """Return each contestant's measurements; if one's batch does not fit, say so and measure the other alone."""
    device = torch.device(setting.device)
    rows: dict[str, dict[str, Any]] = {}
    steps: dict[str, Step] = {}
    for name in CONTESTANTS:
        try:
            steps[name] = build(name, setting)
            rows[name] = alone(steps[name], device)
        except (torch.OutOfMemoryError, ImportError) as error:
            steps.pop(name, None)
            rows[name] = {"unable": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
            release()
    patience = Patience(seconds=1.5) if device.type == "cuda" else Patience(rounds=1)
    for (name, _), taken in take_turns(steps, patience, device).items():
        rows[name]["seconds"] = taken.median
        rows[name]["quartiles"] = [taken.lower_quartile, taken.upper_quartile]
        rows[name]["parts"] = breakdown(steps[name], device, rounds=2 if device.type == "cuda" else 1)
    return {"setting": vars(setting), "rows": rows}


def alone(step: Step, device: torch.device) -> dict[str, Any]:
    """Return the first step's seconds, a later one's peak bytes beyond weights and optimiser, and its waits."""
    started = time.perf_counter()
    step()
    found: dict[str, Any] = {"first, seconds": time.perf_counter() - started, "peak": None, "waits": None}
    if device.type == "cuda":
        step.optimizer.zero_grad()
        found["peak"] = peak_of(step, device)
        places = waits_of(step)
        found |= {"waits": sum(places.values()), "waits by place": dict(places.most_common(8))}
    return found


def largest_batch(context: Context, config: str, contestant: str) -> dict[str, Any]:
    """Estimate from the memory of one and two images how many fit; try that, and a tenth fewer until one fits."""
    device = torch.device(context.device)

    def setting(batch: int) -> Setting:
        return Setting(config, (), f"{batch}x{SIZE}", OBJECTS, "bfloat16", context.device)

    release()
    free = USABLE * torch.cuda.mem_get_info()[0]
    held, peaks = 0, []
    for batch in (1, 2):
        step = build(contestant, setting(batch))
        step()
        step.optimizer.zero_grad()
        held = torch.cuda.memory_allocated()
        peaks.append(peak_of(step, device))
        del step
        release()
    batch = max(1, int(1 + (free - held - peaks[0]) / max(1, peaks[1] - peaks[0])))
    tried = []
    while batch >= 1 and context.left() > 0:
        tried.append(batch)
        try:
            step = build(contestant, setting(batch))
            step()
            (taken,) = take_turns({contestant: step}, Patience(seconds=1.0), device).values()
            return {"batch": batch, "tried": tried, "seconds": taken.median, "images a second": batch / taken.median}
        except torch.OutOfMemoryError:
            step = None
            release()
            batch = min(batch - 1, int(0.9 * batch))
    raise RuntimeError(f"no batch fits in the time: tried {tried}, bytes of one and two images {peaks}.")


def release() -> None:
    """Free unused memory; garbage collection is needed because models and their optimisers refer to each other."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
