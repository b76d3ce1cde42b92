"""Step 5: time whole models on images, ours and Hugging Face's with the same weights, in turns in one run."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from benchmarks.eomt import our_model as eomt_model
from benchmarks.inference import parts_of
from benchmarks.models import Implementation, Setting, hugging_face, our_model, ours, their_model
from torch import nn

from gpu_steps.record import Context, Record
from mask2former.measure.memory import peak_of
from mask2former.measure.timing import Patience, take_turns
from mask2former.modeling.meta_arch import MaskFormer
from mask2former.structures import MaskPrediction

MODELS = ("swin_large", "r50")
EOMT = "coco/panoptic/eomt_large_640"  # configuration below `configs`
SIZES = {"800": (800, 1067), "1024": (1024, 1024)}
PRECISIONS = {"bfloat16": "bfloat16", "TF32": "float32", "float32": "float32"}  # the name -> autocast's format


@dataclass(frozen=True)
class Case:
    """A measured case: ``how`` is one of PRECISIONS, or one of FORMS, which run ours alone in bfloat16."""

    model: str
    size: tuple[int, int]
    batch: int
    how: str

    def __str__(self) -> str:
        return f"{self.model} {self.size[0]}x{self.size[1]} batch {self.batch} {self.how}"


def cases(tiny: bool) -> list[Case]:
    """List the cases, most important first, because there may not be time for all."""
    if tiny:
        tiny = [Case("r50", (64, 96), 2, how) for how in ("bfloat16", "float32", "weights", "graph")]
        return [*tiny, Case("quickstart/eomt", (64, 96), 2, "vit")]
    first = [("800", 1), ("1024", 8)]
    others = [("800", 8), ("1024", 1)]
    order = [("bfloat16", first), ("weights", first), ("graph", first[:1]), ("TF32", first), ("compile", first[:1])]
    order += [("bfloat16", others), ("weights", others), ("float32", first), ("compile", first[1:]), ("TF32", others)]
    order += [("float32", others)]
    found = [Case(model, SIZES[size], batch, how) for how, sizes in order for size, batch in sizes for model in MODELS]
    # Early, for its speed is its reason to be. Known: 128 images a second, compiled, on an H100 (arXiv 2503.19108).
    found[10:10] = [Case(EOMT, (640, 640), batch, "vit") for batch in (1, 8)]
    return found


class Models:
    """The pairs of models, each built once and used at all sizes."""

    def __init__(self, context: Context) -> None:
        self.device = context.device
        self.few: dict[str, Any] = {"queries": 10, "objects": 5} if context.is_tiny else {}

    @functools.cache  # noqa: B019  (there is one, as long as the process)
    def pair(self, name: str) -> tuple[Any, nn.Module]:
        setting = Setting(name, size=(256, 256), **self.few)
        model = our_model(setting, self.device)
        return model, their_model(setting, model)

    def setting(self, case: Case) -> Setting:
        dtype = PRECISIONS.get(case.how, "bfloat16")
        return Setting(case.model, case.size, case.batch, dtype, **self.few)


def run(context: Context, record: Record) -> None:
    models = Models(context)
    for case in cases(context.is_tiny):
        measure = FORMS.get(case.how, eager)
        if case.how == "graph" and context.device != "cuda":
            record.note(graph="CUDA graphs need a GPU")
            continue
        record.attempt(context, str(case), functools.partial(measure, case, models))


def eager(case: Case, models: Models) -> dict[str, Any]:
    setting = models.setting(case)
    model, theirs = models.pair(case.model)
    both = {
        "ours": ours(setting, models.device, model),
        "huggingface": hugging_face(setting, models.device, model, theirs),
    }
    with number_format(case.how):
        try:
            return {"rows": rows(case, both, setting, models.device)}
        except torch.OutOfMemoryError as error:
            unable = str(error).splitlines()[0]
        torch.cuda.empty_cache()
        alone = rows(case, {"ours": both["ours"]}, setting, models.device)
        return {"rows": alone, "both do not fit": unable}


def compiled(case: Case, models: Models) -> dict[str, Any]:
    """Compile a copy of ours for this size; the first run, which compiles, is timed separately."""
    setting = models.setting(case)
    model = copy.deepcopy(models.pair(case.model)[0])
    one = ours(replace(setting, compile="fixed"), models.device, model)
    started = time.perf_counter()
    one.run(setting.images())
    seconds = time.perf_counter() - started
    return {"rows": rows(case, {"ours": one}, setting, models.device), "first run, seconds": seconds}


def in_half(case: Case, models: Models) -> MaskFormer:
    """Copy ours with its weights in bfloat16, so that nothing is converted at each run, as autocast does."""
    return copy.deepcopy(models.pair(case.model)[0]).to(torch.bfloat16)


def halved(case: Case, models: Models) -> dict[str, Any]:
    setting = replace(models.setting(case), dtype="float32")  # no autocast
    one = ours(setting, models.device, in_half(case, models))
    return {"rows": rows(case, {"ours": one}, setting, models.device)}


def graphed(case: Case, models: Models) -> dict[str, Any]:
    """Time our network, its weights in bfloat16, without post-processing, with and without a CUDA graph."""
    setting = models.setting(case)
    model = in_half(case, models)
    device = torch.device(models.device)
    inputs = [{"image": image.to(device)} for image in setting.images()]

    @torch.no_grad()
    def network() -> object:
        return model.predict_raw(inputs)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            network()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = network()
    times = take_turns({"without": network, "graph": graph.replay}, Patience(seconds=0.5), device)
    del kept
    return {"network, seconds": {name: time.median for (name, _), time in times.items()}}


def plain_vit(case: Case, models: Models) -> dict[str, Any]:
    """Time EoMT with its weights in bfloat16: whole, and its network alone, as it is and compiled."""
    device = torch.device(models.device)
    setting = models.setting(case)
    pixels = setting.images()[0].permute(1, 2, 0).contiguous().numpy()
    model = eomt_model(case.model, pixels, models.few.get("objects", 20)).to(device, torch.bfloat16)
    images = torch.stack(setting.images()).to(device, torch.bfloat16)

    @torch.inference_mode()
    def whole() -> object:
        return model([{"image": image} for image in setting.images()])

    @torch.inference_mode()
    def network(run: Callable[[torch.Tensor], MaskPrediction] = model.network) -> object:
        prediction = run(images)
        return prediction.class_logits, prediction.masks.logits()

    functions: dict[str, Callable[[], object]] = {"whole": whole, "network": network}
    if device.type == "cuda":
        functions["network, compiled"] = functools.partial(network, torch.compile(model.network))
    patience = Patience(seconds=0.5) if device.type == "cuda" else Patience(rounds=1)
    times = take_turns(functions, patience, device)
    taken = {name: time.median for (name, _), time in times.items()}
    return {"network, seconds": taken, "what": "seconds of a batch"}


FORMS = {"weights": halved, "compile": compiled, "graph": graphed, "vit": plain_vit}


def rows(case: Case, both: dict[str, Implementation], setting: Setting, device_name: str) -> list[dict[str, Any]]:
    """Return each one's seconds of a batch, images a second, peak bytes beyond the weights, and seconds by part."""
    device = torch.device(device_name)
    images = setting.images()
    functions = {name: functools.partial(one.run, images) for name, one in both.items()}
    patience = Patience(seconds=0.5) if device.type == "cuda" else Patience(rounds=1)
    times = {name: taken for (name, _), taken in take_turns(functions, patience, device).items()}
    found = []
    for name, taken in times.items():
        found.append(
            {
                "name": name,
                "seconds": taken.median,
                "lower_quartile": taken.lower_quartile,
                "upper_quartile": taken.upper_quartile,
                "runs": taken.runs,
                "images a second": case.batch / taken.median,
                "peak": peak_of(functions[name], device) if device.type == "cuda" else None,
                "parts": parts_of(both[name].parts, functions[name], device),
            }
        )
    return found


@contextmanager
def number_format(how: str) -> Iterator[None]:
    """Let float32 products and convolutions run in TF32 if ``how`` is "TF32", else in full float32."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = how == "TF32"
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
