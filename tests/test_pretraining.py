"""Backbones learn classes of whole images, by the trainer of everything else, and then begin a segmentation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from PIL import Image

from mask2former.config import load_config
from mask2former.data.datasets.class_folders import read_class_folders, register_class_folders
from mask2former.data.images.limits import ImageError
from mask2former.data.mapper import build_mapper
from mask2former.data.mapper.whole_images import ClassMapper
from mask2former.engine.trainer import Trainer
from mask2former.evaluation.classification import ClassificationEvaluator
from mask2former.predictor.weights import tasks_of
from mask2former_cli import run_command

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs/imagenet/max_deeplab_s.yaml"
COLOURS = {"blue": (20, 40, 220), "green": (30, 200, 40), "red": (220, 30, 20)}
SMALL = [
    *("MODEL.AXIAL_RESNET.STEM_CHANNELS", [8, 16], "MODEL.AXIAL_RESNET.DEPTHS", [0, 1, 1, 1, 1]),
    *("MODEL.AXIAL_RESNET.CHANNELS", [16, 32, 32, 32, 32], "MODEL.AXIAL_RESNET.NUM_HEADS", 2),
    *("MODEL.CLASSIFIER.NUM_CLASSES", 3, "MODEL.DEVICE", "cpu", "INPUT.CLASSES.SIZE", 33, "DATALOADER.NUM_WORKERS", 0),
    *("SOLVER.IMS_PER_BATCH", 6, "SOLVER.WARMUP_ITERS", 0, "SOLVER.BASE_LR", 0.005, "SOLVER.MAX_ITER", 12),
    *("MODEL.AXIAL_RESNET.DROP_PATH", 0.0, "INPUT.CLASSES.AUTO_AUGMENT", ""),
    *(
        "SOLVER.AMP.ENABLED",
        False,
        "TEST.EVAL_PERIOD",
        0,
        "TEST.LOSS_IMAGES",
        3,
        "TEST.PRECISE_BN.ENABLED",
        True,
        "TEST.PRECISE_BN.NUM_ITER",
        3,
    ),
]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Nine training images and three others of plain colours with noise, one folder for each colour."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1)):
        for name, colour in COLOURS.items():
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                noise = rng.integers(-20, 20, (40, 60, 3))
                Image.fromarray(np.clip(noise + colour, 0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return tmp_path


@pytest.fixture
def registered(folders: Path):
    names = ["colours_train", "colours_val"]
    for name in names:
        register_class_folders(name, str(folders / name.removeprefix("colours_")), str(folders / "train"))
    yield names
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def small(**changes: object):
    return load_config(CONFIG, [*SMALL, *(word for pair in changes.items() for word in pair)])


def test_an_encoder_learns_and_begins_a_segmentation(registered, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = ["DATASETS.TRAIN", ("colours_train",), "DATASETS.TEST", ("colours_val",), "OUTPUT_DIR", str(out)]
    trainer = Trainer(load_config(CONFIG, [*SMALL, *names]))
    trainer.resume_or_load(resume=False)
    trainer.train()
    values = {}
    for line in (out / "metrics.json").read_text().splitlines():
        values |= json.loads(line)
    assert values["classification/top1"] == values["classification/top5"] == 100
    assert values["validation_loss_cls"] < np.log(3)

    cfg = load_config(ROOT / "configs/coco/panoptic/max_deeplab_s.yaml", [*SMALL[:8], "MODEL.DEVICE", "cpu"])
    cfg.merge_from_list(["MODEL.MAX_DEEPLAB.NUM_HEADS", 2, "MODEL.MAX_DEEPLAB.KEY_CHANNELS", 16])
    model = build_model(cfg)
    learnt = torch.load(out / "model_final.pth", weights_only=True)["model"]
    DetectionCheckpointer(model).load(str(out / "model_final.pth"))
    encoder = {name: value for name, value in model.state_dict().items() if name in learnt}
    assert len(encoder) == sum(name.startswith("backbone.") for name in learnt)
    assert all(torch.equal(value, learnt[name]) for name, value in encoder.items())


def test_classes_have_the_training_sets_numbers(folders: Path) -> None:
    for name in ("blue", "green"):
        for file in (folders / "val" / name).iterdir():
            file.unlink()
        (folders / "val" / name).rmdir()
    (folders / "val" / "red" / "._0.png").touch()  # as archives of macOS have them
    (record,) = read_class_folders(str(folders / "val"), str(folders / "train"))
    assert record["class_id"] == 2 and record["image_id"] == "red/0.png"
    assert read_class_folders(str(folders / "val"))[0]["class_id"] == 0

    (folders / "val" / "violet").mkdir()
    with pytest.raises(ValueError, match=r"'violet' is none of the 3 classes"):
        read_class_folders(str(folders / "val"), str(folders / "train"))
    with pytest.raises(FileNotFoundError, match="found no folders"):
        read_class_folders(str(folders / "val" / "violet"))


def test_images_are_cut_to_squares(registered, folders: Path) -> None:
    cfg = small()
    record = DatasetCatalog.get("colours_train")[0]
    mapper = build_mapper(cfg, False, ["colours_train"])
    assert isinstance(mapper, ClassMapper)
    image = mapper(record)["image"]
    assert image.shape == (3, 33, 33) and image.dtype == torch.uint8
    assert [round(value) for value in image.float().mean((1, 2)).tolist()] == pytest.approx(COLOURS["blue"], abs=5)
    assert torch.equal(mapper(record)["image"], image)
    cfg.INPUT.FORMAT = "BGR"
    assert torch.equal(ClassMapper(cfg, False)(record)["image"], image.flip(0))

    cfg.INPUT.CLASSES.AUTO_AUGMENT = "imagenet"
    assert ClassMapper(cfg, True)(record)["image"].shape == (3, 33, 33)
    with pytest.raises(ValueError, match=r"class is number 3, but MODEL\.CLASSIFIER\.NUM_CLASSES is 3"):
        mapper(record | {"class_id": 3})
    with pytest.raises(ImageError, match="gone"):
        mapper(record | {"file_name": str(folders / "gone.png")})
    with pytest.raises(ValueError, match="Name sets of one kind"):
        build_mapper(cfg, True, ["colours_train", "quickstart_train_panoptic"])
    cfg.INPUT.CLASSES.AUTO_AUGMENT = "mnist"
    with pytest.raises(ValueError, match="AUTO_AUGMENT is 'mnist'"):
        ClassMapper(cfg, True)


@pytest.mark.parametrize("size", [(8, 401), (400, 7), (2, 20_000)])
def test_a_line_takes_no_more_memory_than_its_middle(folders: Path, size: tuple[int, int]) -> None:
    """The square is that of the whole image, which is resized here at once where that is small enough."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = np.stack([127 + 120 * np.sin(rows / 3), 127 + 120 * np.cos(columns / 9), 0 * rows], 2).astype(np.uint8)
    Image.fromarray(image).save(folders / "line.png")
    mapper = ClassMapper(small(), False)
    sides, steps = [], mapper.steps
    mapper.steps = lambda given: sides.extend(given.shape[1:]) or steps(given)
    found = mapper({"file_name": str(folders / "line.png"), "class_id": 0})["image"]
    assert max(sides) == 16 * min(size) and min(sides) == min(size)
    if max(size) < 1000:
        whole = steps(torch.from_numpy(image).permute(2, 0, 1))
        assert (found.float() - whole.float()).abs().max() <= 8  # the scale differs by a pixel at the ends


def test_scores_count_the_greatest() -> None:
    evaluator = ClassificationEvaluator()
    scores = torch.tensor([[0.9, 0.1, 0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.5, 0.5, 0, 0, 0, 0]])
    records = [{"class_id": label, "file_name": "x"} for label in (0, 1, 1)]
    evaluator.process(records, [{"class_scores": row} for row in scores])
    # First; fifth of six; as great as another, so second.
    assert evaluator.evaluate() == {"classification": {"top1": pytest.approx(100 / 3), "top5": 100}}
    kept = evaluator.counts()
    evaluator.reset()
    with pytest.raises(ValueError, match="no image to score"):
        evaluator.evaluate()
    evaluator.add_counts(kept)
    evaluator.add_counts(kept)
    assert evaluator.counts()["images"] == 6
    with pytest.raises(ValueError, match="not finite"):
        evaluator.process(records[:1], [{"class_scores": torch.tensor([float("nan")] * 6)}])


def test_a_wrong_number_of_classes_and_feature_are_told(registered, tmp_path: Path) -> None:
    words = ["--config-file", str(CONFIG), *(str(word) for word in SMALL), "MODEL.CLASSIFIER.NUM_CLASSES", "1000"]
    words += ["DATASETS.TRAIN", "('colours_train',)", "DATASETS.TEST", "('colours_val',)"]
    with pytest.raises(SystemExit, match=r"folders of 3 classes \(colours_train\)"):
        run_command("train", [*words, "OUTPUT_DIR", str(tmp_path / "out")], prog="train_net.py")
    cfg = small()
    cfg.MODEL.CLASSIFIER.FEATURE = "res6"
    with pytest.raises(ValueError, match=r"FEATURE is 'res6'; this backbone gives res2"):
        build_model(cfg)


@pytest.mark.parametrize("part", ["MASK_ENCODER", "DISTILLATION"])
def test_parts_that_a_classifier_lacks_are_refused(part: str) -> None:
    cfg = small()
    cfg.MODEL[part].ENABLED = True
    with pytest.raises(ValueError, match=rf"MODEL\.{part}\.ENABLED is True, but .* ImageClassifier has no such part"):
        build_model(cfg)


def test_a_predictor_says_that_it_gives_no_segmentation() -> None:
    with pytest.raises(ValueError, match="ImageClassifier gives no segmentation"):
        tasks_of(small(), None)


def test_any_registered_backbone_may_learn() -> None:
    cfg = small()
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.DEPTH", 18])
    cfg.merge_from_list(["MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.OUT_FEATURES", ["res5"]])
    model = build_model(cfg).train()
    loss = model([{"image": torch.zeros(3, 64, 64, dtype=torch.uint8), "class_id": 1}] * 2)["loss_cls"]
    assert loss.item() == pytest.approx(np.log(3), abs=0.3)
    loss.backward()
