"""Shared by all tests."""

from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from panopticapi.utils import id2rgb
from PIL import Image

import mask2former  # noqa: F401  (mends and registers before Detectron2 is imported)

ROOT = Path(__file__).parents[1]
SIZE = 64  # pixels, of the drawn images


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Give the folder of small real data sets; a test that asks for it is skipped where nobody names one."""
    root = os.environ.get("MASK2FORMER_TEST_DATA")
    if not root:
        pytest.skip("needs real data sets: MASK2FORMER_TEST_DATA names no folder (see CONTRIBUTING.md)")
    if not Path(root).is_dir():
        pytest.fail(f"MASK2FORMER_TEST_DATA is {root}, which is no folder.")
    return Path(root)


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

    from mask2former.config import load_config
    from mask2former.data import register_all
    from mask2former.data.datasets.metadata_file import write_metadata

    register_all()
    folder = tmp_path_factory.mktemp("training")
    cfg = load_config(str(ROOT / "configs" / "quickstart" / "panoptic.yaml"), small_options)
    torch.manual_seed(0)
    torch.save({"model": build_model(cfg).state_dict()}, folder / "model_final.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    write_metadata(cfg.DATASETS.TEST[0], folder / "metadata.json")
    return folder


@pytest.fixture(scope="session")
def small_network():
    """Options that make every quickstart configuration tiny."""
    return [
        *("MODEL.SEM_SEG_HEAD.CONVS_DIM", "32", "MODEL.SEM_SEG_HEAD.MASK_DIM", "32"),
        *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", "1", "MODEL.MASK_FORMER.HIDDEN_DIM", "32"),
        *("MODEL.MASK_FORMER.DEC_LAYERS", "3", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "12"),
        *("MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "64", "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", "0.0"),
        *("SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"),
    ]


@pytest.fixture(scope="session")
def datasets(tmp_path_factory):
    """A quickstart data set of two colours above each other and squares before them; one image has no square."""
    root = tmp_path_factory.mktemp("datasets")
    categories = json.loads((ROOT / "mask2former/data/datasets/catalog/quickstart.json").read_text())
    for split in ("train", "val"):
        write_split(root / "quickstart", split, categories)
    return root


def write_split(root, split, categories):
    rng = np.random.default_rng(len(split))
    things = [c for c in categories if c["isthing"]]
    stuff = [c for c in categories if not c["isthing"]]
    for folder in ("images", "panoptic", "semantic"):
        (root / folder / split).mkdir(parents=True)
    images, annotations, segments = [], [], []
    for image_id in range(1, 5):
        name = f"{image_id:03d}.png"
        ids = np.ones((SIZE, SIZE), np.uint32)
        ids[SIZE // 2 :] = 2
        shown = [stuff[0], stuff[1]]
        for _ in range(image_id - 1):
            y, x = rng.integers(0, SIZE - 20, 2)
            shown.append(things[rng.integers(len(things))])
            ids[y : y + 20, x : x + 20] = len(shown)
        semantic = np.zeros((SIZE, SIZE), np.uint8)
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        infos = []
        for segment_id, category in enumerate(shown, start=1):
            mask = ids == segment_id
            if not mask.any():
                continue
            semantic[mask] = [c["id"] for c in categories].index(category["id"])
            image[mask] = category["color"]
            rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
            facts = {"category_id": category["id"], "area": int(mask.sum()), "iscrowd": 0}
            facts["bbox"] = mask_util.toBbox(rle).tolist()
            infos.append({"id": segment_id, **facts})
            if category["isthing"]:
                run_lengths = {"size": rle["size"], "counts": rle["counts"].decode()}
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": image_id, "segmentation": run_lengths, **facts}
                )
        Image.fromarray(image).save(root / "images" / split / name)
        Image.fromarray(id2rgb(ids)).save(root / "panoptic" / split / name)
        Image.fromarray(semantic).save(root / "semantic" / split / name)
        images.append({"id": image_id, "file_name": name, "height": SIZE, "width": SIZE})
        segments.append({"image_id": image_id, "file_name": name, "segments_info": infos})
    (root / "annotations").mkdir(exist_ok=True)
    for kind, listed, classes in (("panoptic", segments, categories), ("instances", annotations, things)):
        text = json.dumps({"images": images, "annotations": listed, "categories": classes})
        (root / "annotations" / f"{kind}_{split}.json").write_text(text)


@pytest.fixture(autouse=True)
def _skip_without_gpu(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _restored_loggers() -> Iterator[None]:
    """Leave no handler behind: Detectron2's would write to the end of another test's output, and hide from caplog."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "mask2former")]
    before = [(logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Draw the same numbers whichever tests came before: PyTorch's, NumPy's (augmentations) and Python's."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


@pytest.fixture(autouse=True)
def _exact_float32() -> Iterator[None]:
    """Compute float32 in float32 on a GPU too: its convolutions would use TF32, whose products have ten bits."""
    cudnn = torch.backends.cudnn
    before, cudnn.allow_tf32 = cudnn.allow_tf32, False
    yield
    cudnn.allow_tf32 = before
