"""The worked example of docs/extending.md: parts from outside the package, through Detectron2's own trainer."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from detectron2.engine import DefaultTrainer
from detectron2.modeling import build_model

from mask2former.data.mapper import Mapper
from mask2former.engine import Trainer

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("extension", DOCS / "examples" / "extension.py")
    assert spec and spec.loader
    module = sys.modules["extension"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.register(str(tmp_path_factory.mktemp("discs")))
    yield module
    for name in ("discs_train", "discs_val"):
        DatasetCatalog.pop(name)
        MetadataCatalog.pop(name)
    del sys.modules["extension"]


def test_it_learns(example: ModuleType, tmp_path: Path) -> None:
    cfg = example.configuration(str(tmp_path))
    cfg.SOLVER.MAX_ITER = 30
    trainer = Trainer(cfg)
    results = trainer.train()
    assert set(results) == {"bbox", "segm"}
    losses = trainer.storage.history("total_loss").values()
    assert losses[-1][0] < 0.7 * losses[0][0]
    assert "loss_area" in trainer.storage.histories() and "loss_area_0" in trainer.storage.histories()


def test_detectron2s_trainer_builds_and_steps_it(example: ModuleType, tmp_path: Path) -> None:
    """Its own loader has no mapper for masks; a subclass chooses one, as users' scripts do."""

    class TheirTrainer(DefaultTrainer):
        @classmethod
        def build_train_loader(cls, cfg):  # type: ignore[no-untyped-def]
            return build_detection_train_loader(cfg, mapper=Mapper(cfg, True))

    cfg = example.configuration(str(tmp_path))
    cfg.SOLVER.MAX_ITER, cfg.DATASETS.TEST = 2, ()
    trainer = TheirTrainer(cfg)
    before = [parameter.clone() for parameter in trainer.model.parameters()]
    trainer.train()
    assert all(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


def test_frames_of_a_clip_go_through_it(example: ModuleType, tmp_path: Path) -> None:
    model = build_model(example.configuration(str(tmp_path))).eval()
    frames = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(3)]
    with torch.no_grad():
        prediction, batch = model.predict_raw([{"image": frames}])
    assert batch.num_frames == 3 and prediction.masks.logits().shape == (1, 10, 3, 16, 16)


def test_every_registry_of_the_page_is_there() -> None:
    """And holds what the page says that the keys name by default."""
    from mask2former.config import load_config
    from mask2former.modeling.criterion import CRITERION_REGISTRY
    from mask2former.modeling.losses.pixel_losses import MASK_LOSS_REGISTRY
    from mask2former.modeling.losses.terms import LOSS_TERM_REGISTRY
    from mask2former.modeling.matcher import MATCHER_REGISTRY
    from mask2former.modeling.postprocess import PANOPTIC_RULE_REGISTRY
    from mask2former.modeling.transformer_decoder import TRANSFORMER_DECODER_REGISTRY

    page = (DOCS / "extending.md").read_text()
    named = set(re.findall(r"`([A-Z_]+_REGISTRY)`", page))
    node = load_config(None).MODEL.MASK_FORMER
    here = {
        "CRITERION_REGISTRY": (CRITERION_REGISTRY, [node.CRITERION]),
        "MATCHER_REGISTRY": (MATCHER_REGISTRY, [node.MATCHER]),
        "LOSS_TERM_REGISTRY": (LOSS_TERM_REGISTRY, node.LOSS_TERMS),
        "MASK_LOSS_REGISTRY": (MASK_LOSS_REGISTRY, ["PointCrossEntropy", "DenseFocalLoss"]),
        "PANOPTIC_RULE_REGISTRY": (PANOPTIC_RULE_REGISTRY, [node.TEST.PANOPTIC_RULE]),
        "TRANSFORMER_DECODER_REGISTRY": (TRANSFORMER_DECODER_REGISTRY, [node.TRANSFORMER_DECODER_NAME]),
    }
    assert named - {"META_ARCH_REGISTRY", "BACKBONE_REGISTRY", "SEM_SEG_HEADS_REGISTRY"} == set(here)
    for registry, names in here.values():
        assert all(name in registry for name in names)
