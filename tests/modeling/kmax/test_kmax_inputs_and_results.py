"""Images of kMaX-DeepLab's mapper on their way into the model, and what its settings make of its masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from PIL import Image
from small_models import kmax

from mask2former.config import load_config
from mask2former.data.loader import build_train_loader
from mask2former.data.mapper import Mapper

NAME = "kmax_inputs_test"
QUICKSTART = Path(__file__).parents[3] / "configs/quickstart/kmax.yaml"


@pytest.fixture(autouse=True)
def metadata() -> Iterator[None]:
    MetadataCatalog.get(NAME).set(thing_dataset_id_to_contiguous_id={1: 0, 2: 1, 3: 2})
    yield
    MetadataCatalog.remove(NAME)


def configuration() -> CfgNode:
    cfg = kmax()
    cfg.DATASETS.TRAIN = (NAME,)
    cfg.MODEL.MASK_FORMER.TEST.INSTANCE_ON = cfg.MODEL.MASK_FORMER.TEST.PANOPTIC_ON = True
    cfg.MODEL.KMAX_DEEPLAB.TEST.CLASS_THRESHOLD_THING = cfg.MODEL.KMAX_DEEPLAB.TEST.CLASS_THRESHOLD_STUFF = 0.0
    cfg.MODEL.KMAX_DEEPLAB.TEST.PIXEL_CONFIDENCE_THRESHOLD = 0.3
    cfg.MODEL.MASK_FORMER.TEST.PANOPTIC_RULE = "MaskwiseMerger"
    return cfg


def test_padding_of_the_mapper_is_zero_after_normalisation() -> None:
    model = build_model(configuration())
    image = torch.full((3, 33, 40), 255, dtype=torch.uint8)
    real = torch.zeros(33, 40, dtype=torch.bool)
    real[5:20, 7:30] = True
    other = torch.zeros(3, 20, 20, dtype=torch.uint8)
    batch = model.preprocess([{"image": image, "is_real_pixels": real}, {"image": other}]).images.tensor
    assert torch.equal(batch[0, :, :33, :40], real.expand(3, -1, -1).float())
    assert not batch[0, :, 33:].any() and not batch[0, :, :, 40:].any()
    assert (batch[1, :, :20, :20] == -1).all()


@torch.no_grad()
def test_results_are_those_of_its_thresholds() -> None:
    """Instances are where the softmax over slots is above the pixel threshold, and have true boxes."""
    torch.manual_seed(0)
    model = build_model(configuration()).eval()
    norms = [module for name, module in model.named_modules() if name.endswith("_pixel_space_mask_batch_norm")]
    for norm in norms:
        norm.weight.fill_(40.0)  # untrained masks are alike
    settings = model.post_processing
    assert (settings.instance_mask_threshold, settings.maskwise.pixel, settings.maskwise.thing) == (0.3, 0.3, 0.0)
    image = (torch.rand(3, 50, 65) * 255).byte()
    (result,) = model([{"image": image, "height": 100, "width": 130}])
    ((class_logits, masks),) = model.predict([{"image": image, "height": 100, "width": 130}])
    slots = torch.arange(len(class_logits))
    probability = masks(slots).sigmoid()
    torch.testing.assert_close(probability.sum(0), torch.ones(100, 130), atol=1e-4, rtol=0)
    inside = {tuple(mask.flatten().nonzero().flatten().tolist()) for mask in probability > 0.3}
    instances = result["instances"]
    found = [mask for mask in instances.pred_masks if mask.any()]
    assert found and all(tuple(mask.flatten().nonzero().flatten().tolist()) in inside for mask in found)
    for mask, box in zip(instances.pred_masks, instances.pred_boxes.tensor.tolist(), strict=True):
        rows, columns = mask.nonzero(as_tuple=True)
        if len(rows):
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    labels, segments = result["panoptic_seg"]
    assert segments and torch.equal(labels > 0, labels != 0)
    assert (probability.amax(0)[labels > 0] > 0.3).all()


def test_images_of_the_quickstart_s_mapper_train_a_model(tmp_path: Path) -> None:
    """A canvas for the network of quickstart/kmax.yaml, whatever the image's size; a step, of losses without truth."""
    records = []
    for number, size in enumerate([(90, 120), (150, 70)]):
        ids = np.zeros((*size, 3), np.uint8)
        ids[: size[0] // 2, :, 0], ids[size[0] // 2 :, :, 0] = 1, 2
        Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(tmp_path / f"{number}.png")
        Image.fromarray(ids).save(tmp_path / f"{number}_ids.png")
        segments = [{"id": 1, "category_id": 0}, {"id": 2, "category_id": 5}]
        files = {"file_name": str(tmp_path / f"{number}.png"), "pan_seg_file_name": str(tmp_path / f"{number}_ids.png")}
        records.append({**files, "segments_info": segments, "height": size[0], "width": size[1]})
    options = [
        "DATASETS.TRAIN",
        f"('{NAME}',)",
        "SOLVER.IMS_PER_BATCH",
        "2",
        "DATALOADER.NUM_WORKERS",
        "0",
        "SEED",
        "1",
        "INPUT.DATASET_MAPPER_NAME",
        "kmax_panoptic",
        "INPUT.CANVAS",
        "[129, 129]",
    ]
    cfg = load_config(str(QUICKSTART), [*options, "DATALOADER.ASPECT_RATIO_GROUPING", "False"])
    loader = build_train_loader(cfg, Mapper(cfg, True), dataset=records)
    batch = next(iter(loader))
    assert {tuple(one["image"].shape) for one in batch} == {(3, 129, 129)}
    assert all({0, 5} <= set(one["instances"].gt_classes.tolist()) for one in batch)
    model = build_model(configuration())
    tensors = model.preprocess(batch).images.tensor
    assert tensors.shape == (2, 3, 129, 129)
    assert all(not tensors[i, :, ~one["is_real_pixels"]].any() for i, one in enumerate(batch))
    losses = model(batch)
    assert losses and all(torch.isfinite(loss) for loss in losses.values())
