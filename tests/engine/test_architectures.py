"""Every architecture beside Mask2Former trains and is scored, through the trainer and in this process."""

from pathlib import Path

import pytest

from mask2former.data import register_all
from mask2former.engine import load_config
from mask2former.engine.trainer import Trainer

CONFIGS = Path(__file__).parents[2] / "configs" / "quickstart"
ITERATIONS = 12


@pytest.mark.parametrize("name", ["maskformer"])
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
