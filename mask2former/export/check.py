"""Comparison of an exported file with PyTorch: differences of results, and times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mask2former.export.network import OUTPUTS, ExportedNetwork
from mask2former.export.programs import DTYPES, Program

SIZES = ((224, 320), (333, 250), (480, 639))
_PER_PIXEL = {"semantic": "classes", "instance": "masks", "panoptic": "segments"}


@dataclass(frozen=True)
class Row:
    """Comparison at one size.

    Attributes:
        size: (H, W) of the image.
        difference: largest absolute difference of logits, or of scores; None if there are neither.
        equal_pixels: share of pixels that are equal in masks or maps; for logits, whose mask logits have the same sign.
        eager_ms, exported_ms: medians of alternating runs, in milliseconds; None if none were timed.
    """

    size: tuple[int, int]
    difference: float | None
    equal_pixels: float
    eager_ms: float | None
    exported_ms: float | None


@torch.no_grad()
def compare(
    network: ExportedNetwork,
    program: Program,
    *,
    dtype: str = "uint8",
    sizes: Sequence[tuple[int, int]] = SIZES,
    repeats: int = 0,
) -> list[Row]:
    """Compare a program with its network on images of smooth noise; return a row for each size.

    Args:
        network: the network in PyTorch.
        program: its program, from :func:`mask2former.export.load`.
        dtype: dtype of the image, a key of :data:`~mask2former.export.programs.DTYPES`.
        sizes: (H, W) of the images.
        repeats: timed runs of each, in turn.
    """
    rows = []
    for size in sizes:
        image = _image(size).to(DTYPES[dtype]).to(network.model.device)
        eager, exported = network(image), program(image)
        named = {name: (a.cpu(), b.cpu()) for name, a, b in zip(OUTPUTS[network.results], eager, exported, strict=True)}
        times = _in_turn(lambda: network(image), lambda: program(image), repeats)  # noqa: B023 (called at once)
        rows.append(Row(size, _difference(named), _equal_pixels(network.results, named), *times))
    return rows


def _image(size: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(size[0])
    coarse = torch.rand((1, 3, 7, 9), generator=generator)
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1) * 255


def _difference(named: dict[str, tuple[Tensor, Tensor]]) -> float | None:
    numbers = [
        (a - b).abs().max().item()
        for name, (a, b) in named.items()
        if name.endswith(("logits", "scores")) and a.numel()
    ]
    return max(numbers) if numbers else None


def _equal_pixels(results: str, named: dict[str, tuple[Tensor, Tensor]]) -> float:
    if results == "logits":
        a, b = (masks > 0 for masks in named["mask_logits"])
    else:
        a, b = named[_PER_PIXEL[results]]
    if results == "instance":
        a, b = _paired(a, b, named["classes"])
    return (a == b).double().mean().item()


def _paired(a: Tensor, b: Tensor, classes: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Pair the masks [n, H, W] of two lists by best fit, because equal scores may stand in either order."""
    pixels = a[0].numel()
    rows, columns = (masks.flatten(1).float() for masks in (a, b))
    differing = rows @ (1 - columns).T + (1 - rows) @ columns.T
    differing += pixels * (classes[0][:, None] != classes[1])
    first, second = linear_sum_assignment(differing.numpy())
    return a[first], b[second]


def _in_turn(
    eager: Callable[[], object], exported: Callable[[], object], repeats: int
) -> tuple[float | None, float | None]:
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for run, times in zip((eager, exported), taken, strict=True):
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - start))
    if not repeats:
        return None, None
    return statistics.median(taken[0]), statistics.median(taken[1])
