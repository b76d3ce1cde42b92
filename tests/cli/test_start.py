"""A fresh process imports no more than it needs for its first result, with a Detectron2 as `make setup` leaves it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import detectron2
import pytest
import torch
import torchvision

from mask2former.modeling.layers.drop_path import DropPath
from mask2former_cli import lazy_torchvision
from mask2former_cli.patch_detectron2 import patch

ROOT = Path(__file__).parents[2]
# PyTorch's compiler and exporter; what trains, evaluates, draws or tracks an experiment.
NOT_NEEDED = ["torch._dynamo", "torch._inductor", "torch.onnx", "triton", "sympy", "torchvision", "onnx", "matplotlib"]
NOT_NEEDED += ["scipy", "pandas", "timm", "transformers", "tensorboard", "torch.utils.tensorboard", "panopticapi"]
NOT_NEEDED += ["detectron2.engine", "detectron2.evaluation", "mask2former.engine", "mask2former.evaluation"]

PREDICTION = """
import json, sys
import numpy as np
from mask2former import Predictor

Predictor(sys.argv[1])(np.zeros((64, 64, 3), np.uint8)).segments
print(json.dumps(sorted(sys.modules)))
"""
OPERATORS = """
import sys
import torch
import detectron2.layers as layers
from detectron2.layers import deform_conv, nms, roi_align
from detectron2.layers.nms import nms as nms_of_its_file
from detectron2.layers.roi_align import roi_align as roi_align_of_its_file
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
print("torchvision" in sys.modules)  # asked for by name
import torchvision.ops as theirs

assert layers.__file__.startswith(sys.argv[1])
assert nms is nms_of_its_file is layers.nms is theirs.nms
assert roi_align is roi_align_of_its_file is layers.roi_align is theirs.roi_align
assert deform_conv.deform_conv2d is theirs.deform_conv2d
star = {}
exec("from detectron2.layers import *", star)
assert star["nms"] is theirs.nms and star["roi_align"] is theirs.roi_align
for name in ("no_such_name", "__wrapped__"):
    assert not hasattr(layers, name) and not hasattr(layers.deform_conv, name)

corners = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 20
boxes, scores = torch.cat([corners, corners + 9], dim=1), torch.linspace(0, 1, 50)
kinds = torch.arange(50) % 2
expected = theirs.batched_nms(boxes, scores, kinds, 0.4)
assert 2 < len(expected) < 50
for function in (layers.batched_nms, torch.jit.script(layers.batched_nms)):
    assert function(boxes, scores, kinds, 0.4).equal(expected)
many = torch.cat([boxes, boxes.repeat(800, 1) + 1000])  # 40000 and more take another way
many_scores, many_kinds = torch.linspace(0, 1, len(many)), torch.zeros(len(many), dtype=torch.int64)
assert layers.batched_nms(many, many_scores, many_kinds, 0.4).equal(nms(many, many_scores, 0.4))

features = torch.randn(1, 3, 16, 16)
for kind, function in (
    ("ROIPool", lambda rois: theirs.roi_pool(features, rois, (4, 4), 0.5)),
    ("ROIAlignV2", lambda rois: theirs.roi_align(features, rois, (4, 4), 0.5, 2, aligned=True)),
):
    pooler = ROIPooler((4, 4), scales=(0.5,), sampling_ratio=2, pooler_type=kind)
    rois = torch.cat([torch.zeros(50, 1), boxes], dim=1)
    assert pooler([features], [Boxes(boxes)]).equal(function(rois))

offsets = torch.randn(1, 18, 16, 16)
convolution = layers.DeformConv(3, 4, kernel_size=3, padding=1)
assert convolution(features, offsets).equal(theirs.deform_conv2d(features, offsets, convolution.weight, padding=1))
"""


@pytest.fixture(scope="module")
def mended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the installed Detectron2 and mend the copy; return the folder that holds it."""
    folder = tmp_path_factory.mktemp("mended")
    ignored = shutil.ignore_patterns("__pycache__", "projects")
    package = Path(shutil.copytree(Path(detectron2.__file__).parent, folder / "detectron2", ignore=ignored))
    patch(package)
    assert patch(package) == []
    if not all((package / name).exists() for name in lazy_torchvision.FILES):
        pytest.skip("this Detectron2 is not the 0.6 that is mended")
    return folder


def run(code: str, mended: Path, argument: Path) -> str:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(mended), str(ROOT)]), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, argument], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_engine_needs_no_compiler_and_logs_the_same_version(mended: Path) -> None:
    code = """
import sys, mask2former.engine.trainer
from detectron2.utils.collect_env import collect_env_info
line = next(line for line in collect_env_info().splitlines() if line.startswith("torchvision "))
assert not {"torchvision", "torch._dynamo", "sympy"} & sys.modules.keys()
import torchvision
from pathlib import Path
version = torchvision.__version__.partition("+")[0]  # the log has that of the package, which may lack the build's kind
_, logged, place = line.split()
assert (logged.partition("+")[0], place) == (version, f"@{Path(torchvision.__file__).parent}"), line
"""
    run(code, mended, Path())


def test_the_first_result_needs_no_compiler(mended: Path, small_training: Path) -> None:
    imported = json.loads(run(PREDICTION, mended, small_training))
    assert "mask2former.predictor.predictor" in imported and "detectron2.layers.deform_conv" in imported
    found = [name for name in imported if any(name == each or name.startswith(f"{each}.") for each in NOT_NEEDED)]
    assert not found


def test_detectron2s_own_operators_are_torchvisions_when_they_are_used(mended: Path) -> None:
    assert run(OPERATORS, mended, mended).split() == ["True"]


def test_a_branch_is_dropped_as_torchvision_drops_it() -> None:
    branch = torch.randn(8, 3, 2)
    for p in (0.0, 0.4, 1.0):
        for training in (True, False):
            ours, theirs = DropPath(p), torchvision.ops.StochasticDepth(p, "row")
            outputs = []
            for layer in (ours, theirs):
                torch.manual_seed(1)
                outputs.append(layer.train(training)(branch))
            assert torch.equal(*outputs)
    with pytest.raises(ValueError, match=r"branch out is 1\.5; it has to lie between"):
        DropPath(1.5)
