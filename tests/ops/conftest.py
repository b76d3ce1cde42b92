"""Shared by the operators' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from mask2former.ops import library


@pytest.fixture(autouse=True)
def _skip_without_cuda_operator(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") and not library.is_loaded("cuda"):
        pytest.skip("the CUDA operator is not compiled")


@pytest.fixture
def limit_variant() -> Iterator[Callable[[int], int]]:
    highest = 2
    yield torch.ops.mask2former._limit_cpu_variant
    torch.ops.mask2former._limit_cpu_variant(highest)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
