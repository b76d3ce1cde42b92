"""Call every kernel of the operator once on small inputs: ``python -m gpu_steps.small_run cuda``.

It is made to run under compute-sanitizer, so it allocates without PyTorch's pools, in which a wrong address would often
be valid.
"""

from __future__ import annotations

import itertools
import os
import sys

os.environ.setdefault("PYTORCH_NO_CUDA_MEMORY_CACHING", "1")

import torch
from torch import Tensor

from mask2former.ops import (
    library,
    ms_deform_attn,
    ms_deform_attn_fused,
    ms_deform_attn_fused_reference,
    ms_deform_attn_reference,
)

SHAPES = [(5, 7), (3, 4), (9, 2)]
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
CHANNELS = (32, 33)  # in packs of 16 bytes, and one number at a time
FORMS = {
    "classic": (ms_deform_attn, ms_deform_attn_reference),
    "fused": (ms_deform_attn_fused, ms_deform_attn_fused_reference),
}


def main(device: str) -> None:
    if not library.is_loaded(device):
        sys.exit(f"small_run: the operator is not compiled for {device}.")
    torch.manual_seed(0)
    worst = 0.0
    for form, dtype, channels, deterministic in itertools.product(FORMS, DTYPES, CHANNELS, (False, True)):
        torch.use_deterministic_algorithms(deterministic)
        error = compare(form, dtype, channels, device)
        allowed = 20 * torch.finfo(dtype).eps
        if not error <= allowed:
            sys.exit(f"small_run: {form} {dtype} {channels} channels: error {error:.1e}, allowed {allowed:.1e}.")
        worst = max(worst, error / allowed)
    print(f"worst error: {worst:.2f} of what is allowed")


def compare(form: str, dtype: torch.dtype, channels: int, device: str) -> float:
    """Return the largest difference of result or gradients from plain PyTorch in float64, relative to its maximum."""
    function, reference = FORMS[form]
    value = torch.randn(2, sum(h * w for h, w in SHAPES), 2, channels)
    samples = (2, 37, 2, len(SHAPES), 3)
    if form == "fused":
        others = [torch.rand(1, 37, 1, 2), torch.randn(*samples, 2), torch.randn(samples)]
    else:
        others = [1.4 * torch.rand(*samples, 2) - 0.2, torch.rand(samples)]
    exact = torch.promote_types(dtype, torch.float32)
    given = [value.to(dtype), others[0].to(exact), *(x.to(dtype) for x in others[1:])]
    grad = torch.randn(2, 37, 2 * channels).to(dtype)
    ours = _results(function, [x.to(device) for x in given], grad.to(device))
    theirs = _results(reference, [x.double() for x in given], grad.double())
    if form == "fused":  # the gradient of reference points is a sum of rounded numbers; the tests check it
        del ours[2], theirs[2]
    errors = [(a.cpu().double() - b).abs().max() / b.abs().max() for a, b in zip(ours, theirs, strict=True)]
    return max(x.item() for x in errors)


def _results(function, given: list[Tensor], grad: Tensor) -> list[Tensor]:  # type: ignore[no-untyped-def]
    leaves = [x.detach().requires_grad_() for x in given]
    output = function(leaves[0], SHAPES, *leaves[1:])
    return [output.detach(), *torch.autograd.grad(output, leaves, grad)]


if __name__ == "__main__":
    main(sys.argv[1])
