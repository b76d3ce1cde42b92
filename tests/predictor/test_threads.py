"""Threads share one predictor: each result is that of a thread alone, and memory stays flat."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torture import TORTURE

from mask2former import Predictor
from mask2former.predictor import Result

THREADS = 4
GROWTH = 8 << 20  # bytes that resident memory may differ by; a result kept has some 10 kB, so 20,000 of them 200 MB


@pytest.fixture
def small(folder: Path) -> Predictor:
    """A predictor that does not enlarge tiny images."""
    return Predictor(folder, threshold=0.01, opts=["INPUT.MIN_SIZE_TEST", "32"])


@pytest.fixture
def sources(tmp_path: Path) -> list[Any]:
    """Arrays and files, of two sizes; a JPEG file's decoder replaces the process's standard error for a while."""
    rng = np.random.default_rng(3)
    pixels = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in 4 * [(32, 40), (48, 32)]]
    files = [str(tmp_path / f"{number}.{suffix}") for number, suffix in enumerate(("png", "png", "jpg", "jpg"))]
    for file, image in zip(files, pixels, strict=False):
        Image.fromarray(image).save(file)
    return [*files, *pixels[4:]]


def arrays(result: Result) -> list[np.ndarray]:
    instances = result.instances
    found = [result.panoptic, result.semantic, instances.masks, instances.scores, instances.classes, instances.boxes]
    assert all(array is not None for array in found)
    return [np.array(array) for array in found]


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) << 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured by Linux's means")
@pytest.mark.parametrize("count", [40, pytest.param(20_000, marks=TORTURE)])
def test_threads_get_the_results_of_one(small: Predictor, sources: list[Any], count: int) -> None:
    expected = [arrays(small(source)) for source in sources]
    assert len({array.tobytes() for array, *_ in expected}) > 1  # so that a mix-up would be seen
    together = threading.Barrier(THREADS)

    def predict(thread: int, times: int) -> list[int]:
        """Return the numbers of the sources whose result was another one."""
        together.wait()
        wrong = []
        for number in range(thread, thread + times):
            place = number % len(sources)
            found = arrays(small(sources[place]))
            if not all(map(np.array_equal, found, expected[place])):
                wrong.append(place)
        return wrong

    with ThreadPoolExecutor(THREADS) as pool:
        memory = []
        for part in (40, count // 4, count // 4, count // 2):  # the first warms up
            found = pool.map(predict, range(THREADS), [part // THREADS] * THREADS)
            assert [wrong for one in found for wrong in one] == []
            memory.append(resident())
    print("resident, MB:", [size >> 20 for size in memory])
    if count > 1000:  # so few images as 40 say nothing, in a process with the memory of other tests
        assert max(memory) - memory[0] < GROWTH
