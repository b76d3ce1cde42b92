"""`benchmark.py op`: measure the operator side by side with others, and an encoder layer around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from unittest import mock

import torch
from torch import Tensor

from benchmarks.cases import CHANNELS, HEADS, POINTS, Case, Inputs
from benchmarks.contestants import CONTESTANTS, Operator, load
from benchmarks.machine import Limits
from mask2former.measure.memory import apart, is_measurable, peak_of
from mask2former.measure.timing import Patience, take_turns

MODES = ("forward", "training")  # training: forward and backward
LAYERS = {"layer": "layer, ours", "layer_plain": "layer, plain PyTorch"}


@dataclass(frozen=True)
class Row:
    """One contestant's measurements in one case: times in seconds, memory in bytes.

    Attributes:
        floor: least time that the machine's limits allow; None if it is not computed.
        ratio: plain PyTorch's time divided by this one; None if it did not take part.
        peak: memory beyond the inputs; None if it cannot be measured.
        error: largest difference from plain PyTorch in float32, divided by the largest of its results.
    """

    case: Case
    contestant: str
    label: str
    threads: int
    mode: str
    median: float
    lower_quartile: float
    upper_quartile: float
    runs: int
    floor: float | None
    ratio: float | None
    peak: int | None
    error: float | None

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def measure_operator(
    case: Case,
    names: Sequence[str],
    device: torch.device,
    limits: dict[int, Limits],
    patience: Patience,
    memory: bool = True,
) -> tuple[list[Row], dict[str, str]]:
    """Return the rows of a case, and why contestants that can be loaded are not in them."""
    present, _ = load(list(names))
    failed: dict[str, str] = {}
    errors = {}
    for name, operator in list(present.items()):
        try:
            errors[name] = compare(operator, case, device)
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            del present[name]
    rows: list[Row] = []
    for mode in MODES:
        inputs = case.inputs(device, requires_grad=mode == "training")
        functions = {name: step(operator, inputs, mode) for name, operator in present.items()}
        moved, computed = case.work(mode == "training")
        floors = {count: limit.floor(moved, computed, case.dtype) for count, limit in limits.items()}
        peaks = _peaks(case, list(present), mode, device) if memory else {}
        labels = {name: CONTESTANTS[name].label for name in present}
        rows += list(_rows(case, mode, functions, labels, device, floors, peaks, errors, patience, "plain"))
    return rows, failed


def measure_layer(
    case: Case, device: torch.device, threads: Sequence[int], patience: Patience, memory: bool = True
) -> list[Row]:
    """Time a training step of one encoder layer with our operator, as in models, and with the plain one."""
    functions = {name: layer_step(name, case, device) for name in LAYERS}
    peaks = _peaks(case, list(LAYERS), "training", device) if memory else {}
    floors = dict.fromkeys(threads, None)
    return list(_rows(case, "training", functions, LAYERS, device, floors, peaks, {}, patience, "layer_plain"))


def _rows(
    case: Case,
    mode: str,
    functions: dict[str, Callable[[], object]],
    labels: dict[str, str],
    device: torch.device,
    floors: dict[int, float] | dict[int, None],
    peaks: dict[str, int],
    errors: dict[str, float],
    patience: Patience,
    base: str,
) -> Iterator[Row]:
    times = take_turns(functions, patience, device, list(floors))
    for (name, count), time in times.items():
        ratio = times[base, count].median / time.median if base in functions else None
        yield Row(
            *(case, name, labels[name], count, mode, time.median, time.lower_quartile, time.upper_quartile, time.runs),
            *(floors[count], ratio, peaks.get(name), errors.get(name)),
        )


def step(operator: Operator, inputs: Inputs, mode: str) -> Callable[[], object]:
    if mode == "forward":
        return lambda: operator(inputs)
    with torch.no_grad():
        grad = torch.ones_like(operator(inputs))
    return lambda: torch.autograd.grad(operator(inputs), inputs.leaves(), grad)


def compare(operator: Operator, case: Case, device: torch.device) -> float:
    """Return the error (see `Row.error`); also compute gradients once, to fail before measuring if there are none."""
    inputs = case.inputs(device, requires_grad=True)
    result = operator(inputs)
    torch.autograd.grad(result.sum(), inputs.leaves())
    exact = Case(case.size, "float32", case.locations).inputs(device)
    # From the inputs as the dtype rounds them, so that this rounding does not count as an error.
    exact = Inputs(
        *(inputs.value.detach().float(), inputs.shapes, exact.reference),
        *(inputs.offsets.detach().float(), inputs.logits.detach().float()),
    )
    expected = CONTESTANTS["plain"].load()(exact)
    return ((result.detach().float() - expected).abs().max() / expected.abs().max()).item()


def layer_step(name: str, case: Case, device: torch.device) -> Callable[[], object]:
    from mask2former.modeling.layers.deformable_attention import PixelGrid
    from mask2former.modeling.pixel_decoder.msdeformattn import DeformableEncoderLayer

    channels, shapes = HEADS * CHANNELS, case.shapes
    sizes = {"num_levels": len(shapes), "num_heads": HEADS, "num_points": POINTS, "dim_feedforward": 4 * channels}
    layer = DeformableEncoderLayer(channels, **sizes, dropout=0.0).to(device)
    grid = PixelGrid.of(shapes, device)
    x = torch.randn(case.batch, len(grid.reference_points), channels, device=device, requires_grad=True)
    position = torch.randn(len(grid.reference_points), channels, device=device)
    wanted = [x, *layer.parameters()]
    half = case.dtype != "float32"

    def run() -> tuple[Tensor, ...]:
        with (
            without_library() if name == "layer_plain" else nullcontext(),
            torch.autocast(device.type, getattr(torch, case.dtype) if half else torch.bfloat16, enabled=half),
        ):
            result = layer(x, position, grid)
        return torch.autograd.grad(result.float().sum(), wanted)

    return run


def without_library() -> AbstractContextManager[object]:
    """Make models take the plain operator, as if nothing were compiled."""
    from mask2former.ops import library

    library._warned.update(("cpu", "cuda"))  # silence the warning that it is slow
    return mock.patch.object(library, "_loaded", set())


def _peaks(case: Case, names: list[str], mode: str, device: torch.device) -> dict[str, int]:
    if not is_measurable(device):
        return {}
    if device.type == "cuda":
        return peaks_here(case, names, mode, "cuda")
    return apart(peaks_here, case, names, mode, "cpu")


def peaks_here(case: Case, names: list[str], mode: str, device_name: str) -> dict[str, int]:
    """Return the peak memory of operators or layers, one after the other; on a CPU, call it in a fresh process."""
    device, peaks = torch.device(device_name), {}
    if device.type == "cpu":
        torch.set_num_threads(1)
    for name in names:
        if name in LAYERS:
            function = layer_step(name, case, device)
        else:
            function = step(load([name])[0][name], case.inputs(device, mode == "training"), mode)
        function()  # loads code, which stays in memory and is not to count
        peaks[name] = peak_of(function, device)
        del function
    return peaks
