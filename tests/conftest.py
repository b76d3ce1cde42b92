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


@pytest.fixture(scope="session")
def small_options() -> list[str]:
    """Of a configuration: a network that is built and run in no time."""
    sizes = {"SEM_SEG_HEAD.CONVS_DIM": 32, "SEM_SEG_HEAD.MASK_DIM": 32, "SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 1}
    sizes |= {"MASK_FORMER.HIDDEN_DIM": 32, "MASK_FORMER.DEC_LAYERS": 2, "MASK_FORMER.NUM_OBJECT_QUERIES": 10}
    options = ["MODEL.DEVICE", "cpu"]
    for key, value in sizes.items():
        options += [f"MODEL.{key}", str(value)]
    return options


@pytest.fixture(scope="session")
def small_training(small_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a training: a small panoptic model of the quickstart's classes, its weights random."""
    from detectron2.modeling import build_model

    from mask2former.data import register_all
    from mask2former.data.metadata_file import write_metadata
    from mask2former.engine import load_config

    register_all()
    folder = tmp_path_factory.mktemp("training")
    cfg = load_config(str(Path(__file__).parents[1] / "configs" / "quickstart" / "panoptic.yaml"), small_options)
    torch.manual_seed(0)
    torch.save({"model": build_model(cfg).state_dict()}, folder / "model_final.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    write_metadata(cfg.DATASETS.TEST[0], folder / "metadata.json")
    return folder


@pytest.fixture(autouse=True)
def _skip_without_gpu(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
