"""Shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import mask2former  # noqa: F401  (mends and registers before Detectron2 is imported)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Small real data sets; a test that asks for them is skipped where they are not."""
    root = Path(os.environ.get("MASK2FORMER_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"needs the real data sets of {root} (MASK2FORMER_TEST_DATA)")
    return root


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
