"""How often a training step waits for the device: once, for the matching."""

from __future__ import annotations

import warnings
from collections import Counter
from types import TracebackType
from typing import Any

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mask2former.modeling import MaskFormerHead, MSDeformAttnPixelDecoder, MultiScaleMaskedTransformerDecoder
from mask2former.modeling.criterion import SetCriterion
from mask2former.modeling.layers import point_sampling
from mask2former.modeling.losses.pixel_losses import DenseFocalLoss, MaskLoss, PointCrossEntropy
from mask2former.modeling.losses.terms import ClassLoss, MaskAndDiceLoss
from mask2former.modeling.matcher import HungarianMatcher
from mask2former.structures import MaskTargets

WAITING_OPS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "is_nonzero", "equal"}
WAITING_METHODS = {Tensor.cpu: "cpu", Tensor.numpy: "numpy", Tensor.tolist: "tolist", Tensor.item: "item"}


class WaitingOps(TorchDispatchMode):
    """Counts operators that a GPU would have to finish first, those with a mask as index too."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            x is not None and x.dtype == torch.bool for x in args[1]
        )
        if name in WAITING_OPS or by_mask:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


class Copies(TorchFunctionMode):
    """Counts calls that copy to the CPU; on a CPU they do nothing, so no operator tells of them."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WAITING_METHODS:
            self.counts[WAITING_METHODS[func]] += 1
        return func(*args, **(kwargs or {}))


class Waits:
    """Both."""

    def __enter__(self) -> Waits:
        self.ops, self.copies = WaitingOps(), Copies()
        self.copies.__enter__()
        self.ops.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ops.__exit__(kind, error, trace)
        self.copies.__exit__(kind, error, trace)

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.ops.counts + self.copies.counts)


def head() -> MaskFormerHead:
    shapes = {f"res{i}": ShapeSpec(channels=8, stride=2**i) for i in (2, 3, 4, 5)}
    sizes = {"num_heads": 4, "dim_feedforward": 16, "mask_dim": 32}
    pixel_decoder = MSDeformAttnPixelDecoder(
        shapes,
        transformer_in_features=["res3", "res4", "res5"],
        conv_dim=32,
        norm="GN",
        num_points=4,
        num_layers=1,
        dropout=0.0,
        common_stride=4,
        **sizes,
    )
    decoder = MultiScaleMaskedTransformerDecoder(
        32,
        num_classes=5,
        hidden_dim=32,
        num_queries=9,
        num_layers=3,
        pre_norm=False,
        enforce_input_project=False,
        **sizes,
    )
    return MaskFormerHead(shapes, pixel_decoder=pixel_decoder, transformer_decoder=decoder)


def features(device: str = "cpu") -> dict[str, Tensor]:
    return {f"res{i}": torch.randn(2, 8, 128 >> i, 96 >> i, device=device) for i in (2, 3, 4, 5)}


def criterion(mask_loss: MaskLoss) -> SetCriterion:
    matcher = HungarianMatcher(class_weight=2.0, mask_weight=5.0, dice_weight=5.0, mask_loss=mask_loss)
    terms = [
        ClassLoss(num_classes=5, weight=2.0, no_object_weight=0.1),
        MaskAndDiceLoss(mask_loss=mask_loss, mask_weight=5.0, dice_weight=5.0),
    ]
    return SetCriterion(matcher=matcher, terms=terms)


def targets(device: str = "cpu") -> list[MaskTargets]:
    counts = (3, 2)
    return [MaskTargets(torch.arange(n, device=device), torch.rand(n, 1, 128, 96, device=device) > 0.5) for n in counts]


def test_counting_counts() -> None:
    x = torch.tensor([1.0, 0.0])
    with Waits() as waits:
        x[x > 0], x.sum().item(), x.nonzero(), x.cpu(), bool(x[0] > 0)
    assert waits.counts == {"index": 1, "_local_scalar_dense": 2, "nonzero": 1, "cpu": 1, "item": 1}


def test_decoders_never_wait() -> None:
    network, given = head(), features()
    with Waits() as waits:
        prediction = network(given)
    assert waits.counts == {} and len(prediction.aux) == 3


@pytest.mark.parametrize("mask_loss", [PointCrossEntropy(64), DenseFocalLoss()], ids=lambda x: type(x).__name__)
def test_criterion_waits_once(mask_loss: MaskLoss, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all layers and images together, on a device where masks are sampled together."""
    monkeypatch.setattr(point_sampling, "_sample_in_turn", point_sampling._sample_together)
    prediction, wanted, loss = head()(features()), targets(), criterion(mask_loss)
    with Waits() as waits:
        losses = loss(prediction, wanted)
    assert waits.counts == {"cpu": 1, "numpy": 1}  # of the same tensor
    assert len(losses) == 12


@pytest.mark.gpu
def test_step_on_a_gpu_waits_once() -> None:
    network, loss = head().cuda(), criterion(PointCrossEntropy(64))
    loss.cuda()
    given, wanted = features("cuda"), targets("cuda")
    loss(network(given), wanted)  # loads kernels
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sum(loss(network(given), wanted).values()).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [str(warning.message) for warning in caught if "called a synchronizing" in str(warning.message)]
    assert len(waits) == 1, waits
