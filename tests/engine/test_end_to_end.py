"""train_net.py as a person runs it: train a small network on a few drawn pictures, then evaluate its checkpoint."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
from panopticapi.utils import id2rgb
from PIL import Image

ROOT = Path(__file__).parents[2]
SIZE = 64
SMALL_NETWORK = [
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", "32", "MODEL.SEM_SEG_HEAD.MASK_DIM", "32"),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", "1", "MODEL.MASK_FORMER.HIDDEN_DIM", "32"),
    *("MODEL.MASK_FORMER.DEC_LAYERS", "3", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "12"),
    *("MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "64", "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", "0.0"),
    *("SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"),
]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """A quickstart data set of two colours above each other and squares before them; one picture has no square."""
    root = tmp_path_factory.mktemp("datasets")
    categories = json.loads((ROOT / "mask2former/data/catalog/quickstart.json").read_text())
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
        picture = np.zeros((SIZE, SIZE, 3), np.uint8)
        infos = []
        for segment_id, category in enumerate(shown, start=1):
            mask = ids == segment_id
            if not mask.any():
                continue
            semantic[mask] = [c["id"] for c in categories].index(category["id"])
            picture[mask] = category["color"]
            rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
            facts = {"category_id": category["id"], "area": int(mask.sum()), "iscrowd": 0}
            facts["bbox"] = mask_util.toBbox(rle).tolist()
            infos.append({"id": segment_id, **facts})
            if category["isthing"]:
                run_lengths = {"size": rle["size"], "counts": rle["counts"].decode()}
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": image_id, "segmentation": run_lengths, **facts}
                )
        Image.fromarray(picture).save(root / "images" / split / name)
        Image.fromarray(id2rgb(ids)).save(root / "panoptic" / split / name)
        Image.fromarray(semantic).save(root / "semantic" / split / name)
        images.append({"id": image_id, "file_name": name, "height": SIZE, "width": SIZE})
        segments.append({"image_id": image_id, "file_name": name, "segments_info": infos})
    (root / "annotations").mkdir(exist_ok=True)
    for kind, listed, classes in (("panoptic", segments, categories), ("instances", annotations, things)):
        text = json.dumps({"images": images, "annotations": listed, "categories": classes})
        (root / "annotations" / f"{kind}_{split}.json").write_text(text)


def train_net(datasets, output, *arguments):
    command = [sys.executable, "-W", "ignore", "train_net.py", "--quiet", *arguments, "OUTPUT_DIR", str(output)]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def scores(text):
    return dict(re.findall(r"^(PQ|mask AP|box AP|mIoU) +(\S+)$", text, flags=re.MULTILINE))


def test_train_then_evaluate(datasets, tmp_path):
    config = ("--config-file", "configs/quickstart/panoptic.yaml")
    said = train_net(datasets, tmp_path / "train", *config, *SMALL_NETWORK, "SOLVER.MAX_ITER", "4")
    assert "iteration 4/4" in said
    assert "copypaste" not in said  # Detectron2's log stays in the file of a quiet run
    found = scores(said)
    assert set(found) == {"PQ", "mask AP", "box AP", "mIoU"}
    assert "copypaste" in (tmp_path / "train" / "log.txt").read_text()

    weights = ("MODEL.WEIGHTS", str(tmp_path / "train" / "model_final.pth"))
    again = train_net(datasets, tmp_path / "eval", *config, "--eval-only", *SMALL_NETWORK, *weights)
    assert scores(again) == found

    augmented = ("TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(64, 96)", "TEST.AUG.FLIP", "True")
    both = train_net(datasets, tmp_path / "tta", *config, "--eval-only", *SMALL_NETWORK, *weights, *augmented)
    plain, with_tta = both.split("With test-time augmentation")
    assert scores(plain) == found
    assert set(scores(with_tta)) == set(found)
    assert (tmp_path / "tta" / "inference_TTA" / "coco_instances_results.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-file", "configs/nothing.yaml"], "error: configs/nothing.yaml: no such configuration file"),
        (["--eval-only", "MODEL.DEVICE", "cpu"], "error: --eval-only needs the weights"),
        (["--num-gpus", "2", "MODEL.DEVICE", "cpu"], "error: --num-gpus and .* need GPUs"),
    ],
)
def test_mistakes_end_with_one_line(monkeypatch, arguments, message):
    spec = importlib.util.spec_from_file_location("train_net", ROOT / "train_net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["train_net.py", *arguments])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match=message):
        module.main()


def test_code_in_a_configuration_needs_the_flag(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("train_net", ROOT / "train_net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "code.yaml").write_text('SOLVER: {MAX_ITER: !!python/object/apply:eval ["len([1])"]}\n')
    arguments = ["train_net.py", "--eval-only", "--config-file", str(tmp_path / "code.yaml")]
    for flags, message in [([], "refused to evaluate"), (["--allow-unsafe-config"], "--eval-only needs the weights")]:
        monkeypatch.setattr(sys, "argv", arguments + flags)
        with pytest.raises(SystemExit, match=message):
            module.main()
