"""Install a wheel where there is no compiler, and use it: the operator, and the commands that a new user types.

In a fresh virtual environment outside the checkout, with the torch and the Python asked for (5 GB, minutes; uv's cache
helps the next time), with nothing but that environment on the PATH. Detectron2 comes by `mask2former doctor`, as
it does for a user. Then a small model is trained on drawn images and draws on one of them. Example:

    .venv/bin/python tools/check_wheel.py dist/mask2former-*.whl --torch 2.10.0 --python python3.12
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from setup_env import BIN, PINNED, ROOT

UV = [sys.executable, "-m", "uv"]
CHECK = """
import shutil, sys, torch
from mask2former import ops
from mask2former.ops import library

assert not any(map(shutil.which, ["cc", "gcc", "c++", "g++", "clang", "nvcc"])), "there is a compiler on the PATH"
assert str(library.FOLDER).startswith(sys.prefix), f"{library.FOLDER} is not of the wheel"
assert library.is_loaded("cpu"), "the compiled operator is not there"
torch.manual_seed(0)
shapes = [(5, 7), (9, 13), (18, 25)]
value, places, logits = torch.randn(2, 602, 8, 32), torch.rand(2, 602, 8, 3, 4, 2), torch.randn(2, 602, 8, 12)
results = []
for function in (ops.ms_deform_attn, ops.ms_deform_attn_reference):
    leaves = [x.clone().requires_grad_() for x in (value, places, logits)]
    weights = leaves[2].softmax(-1).unflatten(-1, (3, 4))
    result = function(leaves[0], shapes, leaves[1], weights)
    results.append([result.detach(), *torch.autograd.grad(result.square().sum(), leaves)])
for ours, plain in zip(*results, strict=True):
    torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-3)
print("computes what plain PyTorch does, gradients too")
"""
# Six images of one square each, and their COCO json.
DRAW = """
import json
from pathlib import Path
from PIL import Image
Path("images").mkdir()
images, annotations = [], []
for number in range(1, 7):
    left, side = 8 * number, 20 + number
    image = Image.new("RGB", (96, 96), (40, 60, 90))
    image.paste((220, 120, 30), (left, 10, left + side, 10 + side))
    image.save(f"images/{number}.png")
    corners = [left, 10, left + side, 10, left + side, 10 + side, left, 10 + side]
    images.append({"id": number, "file_name": f"{number}.png", "width": 96, "height": 96})
    annotations.append({"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "area": side * side,
                        "bbox": [left, 10, side, side], "segmentation": [corners]})
classes = [{"id": 1, "name": "square"}]
Path("train.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": classes}))
"""
TINY = [
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", "32", "MODEL.SEM_SEG_HEAD.MASK_DIM", "32"),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", "1", "MODEL.MASK_FORMER.HIDDEN_DIM", "32"),
    *("MODEL.MASK_FORMER.DEC_LAYERS", "3", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "12"),
    *("MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "64", "SOLVER.MAX_ITER", "4", "SOLVER.IMS_PER_BATCH", "2"),
    *("MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "96", "INPUT.MIN_SIZE_TRAIN", "(96,)"),
    *("INPUT.CROP.SIZE", "[96, 96]", "DATALOADER.NUM_WORKERS", "0"),
]
# Words after "mask2former", in this order, and the exit status that each has to have.
COMMANDS = [
    (0, "--help"),
    (1, "doctor --no-run"),
    (0, "doctor --install-detectron2"),
    (0, "ops"),
    (0, "zoo"),
    (0, "check --coco train.json images"),
    (0, "train-custom --train train.json images --model small --from-scratch --output mine --quiet", *TINY),
    (0, "predict --model mine --input images/1.png --output drawn --save-json"),
    (0, "report mine"),
]
PAGES = ["mine/report.html", "mine/curves.html"]
WRITTEN = ["mine/model_final.pth", *PAGES, "drawn/1_instance.png", "drawn/instance.json"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument(
        "--torch", metavar="VERSION", help="version of torch (default: as pinned in requirements/lock.txt)"
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter (default: this one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "venv", *BIN.parts[-1:], "python")
        uv = [*UV, "pip", "install", "--quiet", "--python", str(python)]
        run([*UV, "venv", "--quiet", "--seed", "--python", arguments.python, str(Path(folder, "venv"))])
        bare = {**os.environ, "PATH": str(python.parent)}
        for name in ("CC", "CXX", "CUDA_HOME", "CUDA_PATH", "PYTHONPATH", "VIRTUAL_ENV"):
            bare.pop(name, None)
        if arguments.torch:
            needs = ["--override", str(ROOT / "requirements/overrides.txt"), "-r", str(ROOT / "requirements/lock.in")]
            run([*uv, f"torch=={arguments.torch}", *needs], bare)
        else:
            run([*uv, "--no-deps", "-r", str(PINNED["all"])], bare)
        run([*uv, "--no-deps", str(arguments.wheel.resolve())], bare)
        work = Path(folder, "work")
        work.mkdir()
        run([str(python), "-c", DRAW], bare, work)
        for status, words, *others in COMMANDS:
            print(f"$ mask2former {words}", flush=True)
            run([str(python.with_name("mask2former")), *words.split(), *others], bare, work, status)
        if missing := [file for file in WRITTEN if not (work / file).is_file()]:
            sys.exit(f"wheel: the commands did not write {', '.join(missing)}.")
        run([str(python), "-c", CHECK], bare, work)


def run(
    command: list[str], environment: dict[str, str] | None = None, folder: Path | None = None, status: int = 0
) -> None:
    code = subprocess.run(command, env=environment, cwd=folder).returncode
    if code != status:
        sys.exit(f"wheel: this command ended with exit status {code}, not {status}: {' '.join(command[:6])} ...")


if __name__ == "__main__":
    main()
