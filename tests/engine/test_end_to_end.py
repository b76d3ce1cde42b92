"""train_net.py as a person runs it: train a small network on a few drawn images, then evaluate its checkpoint."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def train_net(datasets, output, *arguments):
    command = [sys.executable, "-W", "ignore", "train_net.py", "--quiet", *arguments, "OUTPUT_DIR", str(output)]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def scores(text):
    return dict(re.findall(r"^(PQ|mask AP|box AP|mIoU) +(\S+)$", text, flags=re.MULTILINE))


def test_train_then_evaluate(datasets, small_network, tmp_path):
    config = ("--config-file", "configs/quickstart/panoptic.yaml")
    said = train_net(datasets, tmp_path / "train", *config, *small_network, "SOLVER.MAX_ITER", "4")
    assert "iteration 4/4" in said
    assert "copypaste" not in said  # Detectron2's log stays in the file of a quiet run
    found = scores(said)
    assert set(found) == {"PQ", "mask AP", "box AP", "mIoU"}
    assert "copypaste" in (tmp_path / "train" / "log.txt").read_text()

    weights = ("MODEL.WEIGHTS", str(tmp_path / "train" / "model_final.pth"))
    again = train_net(datasets, tmp_path / "eval", *config, "--eval-only", *small_network, *weights)
    assert scores(again) == found

    augmented = ("TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(64, 96)", "TEST.AUG.FLIP", "True")
    both = train_net(datasets, tmp_path / "tta", *config, "--eval-only", *small_network, *weights, *augmented)
    plain, with_tta = both.split("With test-time augmentation")
    assert scores(plain) == found
    assert set(scores(with_tta)) == set(found)
    assert (tmp_path / "tta" / "inference_TTA" / "coco_instances_results.json").is_file()


@pytest.mark.slow
def test_another_family_trains_resumes_and_is_scored(datasets, small_network, tmp_path):
    config = ("--config-file", "configs/quickstart/eomt.yaml", *small_network, "MODEL.CHECKPOINT", "['backbone']")
    said = train_net(datasets, tmp_path / "train", *config, "SOLVER.MAX_ITER", "3", "SOLVER.AMP.DTYPE", "bfloat16")
    assert "iteration 3/3" in said and set(scores(said)) == {"PQ", "mask AP", "box AP", "mIoU"}
    again = train_net(datasets, tmp_path / "train", "--resume", *config, "SOLVER.MAX_ITER", "4")
    assert "iteration 4/4" in again and "iteration 3/" not in again
    augmented = ("TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(64, 96)", "TEST.AUG.FLIP", "True")
    weights = ("MODEL.WEIGHTS", str(tmp_path / "train" / "model_final.pth"))
    both = train_net(datasets, tmp_path / "eval", "--eval-only", *config, *weights, *augmented)
    plain, with_tta = both.split("With test-time augmentation")
    assert scores(plain) == scores(again) and set(scores(with_tta)) == set(scores(again))


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
