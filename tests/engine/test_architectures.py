"""Every architecture beside Mask2Former trains and is scored, through the trainer and in this process."""

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from mask2former.config import load_config
from mask2former.data import register_all
from mask2former.data.mapper import Mapper
from mask2former.engine.trainer import Trainer

CONFIGS = Path(__file__).parents[2] / "configs" / "quickstart"
ITERATIONS = 12


@pytest.mark.parametrize("name", ["maskformer", "per_pixel", "per_pixel_plus"])
def test_trains_and_is_scored(name, datasets, small_network, tmp_path):
    register_all(str(datasets))
    options = ["SOLVER.MAX_ITER", str(ITERATIONS), "SOLVER.WARMUP_ITERS", "0", "OUTPUT_DIR", str(tmp_path)]
    cfg = load_config(str(CONFIGS / f"{name}.yaml"), [*small_network, *options])
    trainer = Trainer(cfg)
    scores = trainer.train()
    assert set(scores) == {"sem_seg"} and 0 <= scores["sem_seg"]["mIoU"] <= 100

    loss = [value for value, _ in trainer.storage.history("total_loss").values()]
    assert len(loss) == ITERATIONS and sum(loss[-4:]) < 0.9 * sum(loss[:4])
    # Or training over several processes would wait for them for ever.
    without = [n for n, p in trainer.model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


def test_labels_of_every_pixel_are_those_of_the_file(datasets, tmp_path):
    """For models that learn from them; pixels without a class get the label that the loss ignores."""
    register_all(str(datasets))
    record = dict(DatasetCatalog.get("quickstart_train_sem_seg")[1])
    labels = np.array(Image.open(record["sem_seg_file_name"]))
    labels[:7, :9] = 255
    record["sem_seg_file_name"] = str(tmp_path / "labels.png")
    Image.fromarray(labels).save(record["sem_seg_file_name"])
    options = ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TRAIN", f"({len(labels)},)", "INPUT.RANDOM_FLIP", "none"]
    for name, given in (("per_pixel", True), ("maskformer", False)):
        mapped = Mapper(load_config(str(CONFIGS / f"{name}.yaml"), options), True)(record)
        assert ("sem_seg" in mapped) == given
        if given:
            np.testing.assert_array_equal(mapped["sem_seg"], labels)
