"""Running out of memory: the same results from half of the work at a time, under real limits on a process's memory."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mask2former import Predictor, out_of_memory
from mask2former.out_of_memory import in_halves, is_out_of_memory

ROOT = Path(__file__).parents[1]
BATCH = """
import logging, resource, sys
from pathlib import Path
import torch
import mask2former
from detectron2.modeling import build_model
from mask2former.config import load_config
from mask2former.out_of_memory import is_out_of_memory

def bytes_now():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if "VmSize" in line).split()[1]) << 10

logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
torch.set_num_threads(1)
torch.manual_seed(0)
results = [word for task in ("INSTANCE", "PANOPTIC") for word in (f"MODEL.MASK_FORMER.TEST.{task}_ON", "False")]
model = build_model(load_config(sys.argv[1], ["MODEL.DEVICE", "cpu", *results])).eval()
# The widest one pads the others, in halves too.
images = [{"image": torch.randint(0, 256, (3, 256, width), dtype=torch.uint8)} for width in (256, 320, 256, 192)]
with torch.no_grad():
    expected = [x["sem_seg"] for x in model(images)]
    for megabytes in range(16, 160, 8):  # the least in which halves of these images have room
        limit = bytes_now() + (megabytes << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        try:
            found = [x["sem_seg"] for x in model(images)]
            break
        except RuntimeError as error:
            assert is_out_of_memory(error), error
print("difference", max((a - b).abs().max().item() for a, b in zip(expected, found)))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's count of a process's memory")
def test_batch_that_does_not_fit_is_halved_with_the_same_results() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, "-c", BATCH, str(ROOT / "configs/quickstart/semantic.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    said = [line for line in done.stdout.splitlines() if "Out of memory" in line]
    assert "with 4 images at a time: going on with 2" in said[0], done.stdout
    assert float(done.stdout.split()[-1]) < 1e-4


TRAIN = """
import itertools, resource, sys
import torch
import mask2former
sys.path.insert(0, sys.argv[2])
from test_devices import SMALL, batch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from mask2former.config import load_config
from mask2former.engine.precision import AmpSettings
from mask2former.engine.train_step import TrainStep

torch.set_num_threads(1)
model = build_model(load_config(sys.argv[1], SMALL)).train()
images = 4 * batch()
step = TrainStep(
    model, itertools.repeat(images), torch.optim.AdamW(model.parameters()), precision=AmpSettings("cpu"), seed=0
)
with EventStorage():
    step.iter = 0
    step.run_step()
    step.iter = 1
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), resource.RLIM_INFINITY))
    try:
        step.run_step()
    except MemoryError as error:
        print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's count of a process's memory")
def test_training_that_does_not_fit_says_what_was_needed_and_what_helps() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [
        sys.executable,
        "-c",
        TRAIN,
        str(ROOT / "configs/quickstart/panoptic.yaml"),
        str(ROOT / "tests/modeling"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Out of memory at iteration 1, in a step of 8 images of up to 96 x 64 pixels" in done.stdout
    assert re.search(r"has held [\d.]+ GiB at most when \d+ bytes more were asked for", done.stdout)
    assert "SOLVER.ACCUMULATE_STEPS 2 (" in done.stdout and "MODEL.CHECKPOINT" in done.stdout
    assert "INPUT.CROP.SIZE" in done.stdout


@pytest.fixture(autouse=True)
def _unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out_of_memory, "_said", set())


def test_halves_go_on_down_to_one(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    def function(items: list[int]) -> list[int]:
        seen.append(len(items))
        if len(items) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return [2 * item for item in items]

    with caplog.at_level(logging.WARNING):
        assert in_halves(function, list(range(7))) == [2 * item for item in range(7)]
        assert in_halves(function, list(range(7))) == [2 * item for item in range(7)]
    assert seen == 2 * [7, 4, 2, 2, 3, 2, 1]
    assert [len(record.message) > 0 for record in caplog.records] == 3 * [True], "each size is said once"


def test_other_errors_and_single_items_are_not_hidden() -> None:
    def raising(error: Exception) -> None:
        def function(items: list[int]) -> list[int]:
            raise error

        with pytest.raises(type(error), match="this"):
            in_halves(function, [1] if is_out_of_memory(error) else [1, 2])

    raising(RuntimeError("this is something else"))
    raising(MemoryError("this"))
    raising(RuntimeError("DefaultCPUAllocator: can't allocate memory: this"))


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "HIP error: out of memory",
    ],
)
def test_errors_of_a_gpus_libraries_are_recognised(words: str) -> None:
    assert is_out_of_memory(RuntimeError(words))
    assert not is_out_of_memory(RuntimeError(words.replace("out of memory", "device lost").replace("ALLOC", "EXEC")))


@pytest.mark.parametrize("elements", [1 << 45])
def test_errors_of_a_cpu_are_recognised(elements: int) -> None:
    for allocate in (lambda: torch.empty(elements), lambda: np.ones(elements)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            allocate()
        assert is_out_of_memory(caught.value)


PRIMITIVE = """
import resource
import torch
from mask2former.out_of_memory import is_out_of_memory

torch.set_num_threads(1)
weight = torch.rand(16, 3, 3, 3)
images = [torch.rand(1, 3, 16 + i, 16 + i) for i in range(60)]  # each size has a primitive of its own
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
# With nothing left at all, oneDNN crashed in four of six runs.
resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), resource.RLIM_INFINITY))
try:
    for image in images:
        torch.ops.mkldnn._convolution_pointwise(image, weight, None, [0, 0], [1, 1], [1, 1], 1, "relu", [], "")
except RuntimeError as error:
    print(is_out_of_memory(error), error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's count of a process's memory")
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
def test_onednn_without_room_for_a_primitive_is_recognised() -> None:
    done = subprocess.run([sys.executable, "-c", PRIMITIVE], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.startswith("True"), done.stdout + done.stderr[-2000:]
    assert is_out_of_memory(RuntimeError("could not create a primitive"))
    assert not is_out_of_memory(RuntimeError("could not create a primitive descriptor for a convolution"))


class Narrow(nn.Module):
    """A network around another, that has no memory for an image above some number of pixels."""

    def __init__(self, network: nn.Module, pixels: int) -> None:
        super().__init__()
        self.network, self.pixels = network, pixels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        if images.shape[-1] * images.shape[-2] > self.pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        return self.network(images)


def test_image_that_does_not_fit_is_refused_with_advice_or_cut(small_training: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (256, 512, 3), dtype=np.uint8)
    options = ["INPUT.MIN_SIZE_TEST", "0"]
    predictor = Predictor(small_training, tasks=["semantic"], opts=options, device="cpu")
    shape = predictor.model.backbone.output_shape
    predictor.model.backbone = Narrow(predictor.model.backbone, 256 * 256)
    predictor.model.backbone.output_shape = shape  # type: ignore[assignment]
    with pytest.raises(MemoryError, match=r"512 x 256 pixels does not fit.*CUDA out of memory.*tile_if_needed=True"):
        predictor(image).semantic  # noqa: B018
    predictor.tile_if_needed = True
    cut = predictor(image).semantic
    expected = Predictor(small_training, tasks=["semantic"], opts=options, device="cpu", tile=256, overlap=32)
    assert np.array_equal(cut, expected(image).semantic)
    predictor.model.backbone.pixels = 0
    with pytest.raises(MemoryError, match="Not even tiles of 128 pixels fit"):
        predictor(image).semantic  # noqa: B018


@pytest.mark.gpu
def test_gpu_with_little_memory_halves_the_batch() -> None:
    from detectron2.modeling import build_model

    from mask2former.config import load_config

    options = ["MODEL.DEVICE", "cuda", "MODEL.MASK_FORMER.TEST.INSTANCE_ON", "False"]
    options += ["MODEL.MASK_FORMER.TEST.PANOPTIC_ON", "False"]
    model = build_model(load_config(str(ROOT / "configs/quickstart/semantic.yaml"), options)).eval()
    images = [{"image": torch.randint(0, 256, (3, 1024, 1024), dtype=torch.uint8)} for _ in range(8)]
    total = torch.cuda.get_device_properties(0).total_memory
    with torch.no_grad():
        model(images[:4])
        torch.cuda.reset_peak_memory_stats()
        expected = [model([image])[0]["sem_seg"].cpu() for image in images]
        torch.cuda.reset_peak_memory_stats()
        model(images[:4])
        enough = torch.cuda.max_memory_reserved() * 1.1
        out_of_memory.release()
        torch.cuda.set_per_process_memory_fraction(enough / total)
        try:
            found = [x["sem_seg"].cpu() for x in model(images)]
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
