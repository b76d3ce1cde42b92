"""Check what is said of images that could not be read, after a training and beside the scores of an evaluation."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from PIL import Image

from mask2former.config import load_config
from mask2former.data.mapper.bad_images import BadImages
from mask2former.engine.hooks.bad_images import SHOWN, BadImagesHook
from mask2former.engine.trainer import Trainer

DATASET = "bad_images_test_set"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[list[dict[str, Any]]]:
    """Four images, registered; the second is cut off."""
    records = []
    for number in range(4):
        file = tmp_path / f"{number}.png"
        Image.new("RGB", (32, 32), (9, 9, 9)).save(file)
        records.append({"file_name": str(file), "image_id": number, "height": 32, "width": 32, "annotations": []})
    cut = tmp_path / "1.png"
    cut.write_bytes(cut.read_bytes()[:50])
    DatasetCatalog.register(DATASET, lambda: records)
    yield records
    DatasetCatalog.remove(DATASET)


def configuration(folder: Path, choice: str) -> Any:
    options = ["OUTPUT_DIR", str(folder), "DATALOADER.ON_BAD_IMAGE", choice, "DATALOADER.NUM_WORKERS", "1"]
    options += ["DATASETS.TEST", f"('{DATASET}',)", "DATASETS.TRAIN", f"('{DATASET}',)", "TEST.REPORT", "False"]
    options += ["INPUT.DATASET_MAPPER_NAME", "mask_former_instance", "SOLVER.IMS_PER_BATCH", "1"]
    return load_config(
        None, [*options, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "False", "INPUT.MIN_SIZE_TRAIN", "(32,)"]
    )


class Seen(DatasetEvaluator):
    """Count images."""

    def reset(self) -> None:
        self.ids: list[int] = []

    def process(self, inputs: list[dict[str, Any]], outputs: Any) -> None:
        self.ids += [one["image_id"] for one in inputs]

    def evaluate(self) -> dict[str, dict[str, float]]:
        return {"sem_seg": {"mIoU": float(len(self.ids))}}


def test_the_share_is_said_beside_the_scores(
    records: list[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = torch.nn.Identity()
    for _ in range(2):  # an earlier evaluation's images are not counted again
        caplog.clear()
        with caplog.at_level(logging.INFO):
            scores = Trainer.test(configuration(tmp_path / "run", "skip"), model, Seen())
        assert scores["sem_seg"]["mIoU"] == 4
        [said] = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
        assert f"1 of 4 images (25.00%) of {DATASET} cannot be read and count in these scores" in said
        assert "bad_images.jsonl" in said and "1.png" in said
    with pytest.raises(ValueError, match=r"1\.png"):
        Trainer.test(configuration(tmp_path / "other", "stop"), model, Seen())


def test_training_reads_other_images(records: list[dict[str, Any]], tmp_path: Path) -> None:
    cfg = configuration(tmp_path / "run", "skip")
    batches = iter(Trainer.build_train_loader(cfg))
    seen = {next(batches)[0]["image_id"] for _ in range(12)}
    assert seen == {0, 2, 3}
    assert [Path(name).name for name in BadImages.of(cfg.OUTPUT_DIR).since(0)] == ["1.png"]


def test_the_list_is_said_after_training(
    records: list[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = BadImages.of(str(tmp_path))
    images.add({"file_name": "earlier.png"}, ValueError("earlier.png: of an earlier run"))
    hook = BadImagesHook(images, [DATASET])
    hook.trainer = SimpleNamespace()
    hook.after_train()
    assert not caplog.records
    for number in [*range(SHOWN + 2), 0]:
        images.add({"file_name": f"{number}.png"}, ValueError(f"{number}.png: cut"))
    hook.after_train()
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"{SHOWN + 2} of 4 images (175.00%)") and "left out of the training" in said
    assert said.count(": cut") == SHOWN and said.endswith("and 2 more") and "earlier" not in said
