"""What the terminal shows and what is in log.txt alone."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mask2former.engine.logs import is_for_people, is_not_about_missing_cuda

ROOT = Path(__file__).parents[2]
SETUP = """
import sys
import mask2former
from mask2former.data import register_all
from mask2former.config import load_config
from mask2former.engine.logs import setup_run
from types import SimpleNamespace
register_all(sys.argv[1])
cfg = load_config("configs/quickstart/panoptic.yaml", ["OUTPUT_DIR", sys.argv[1], "MODEL.DEVICE", "cpu"])
setup_run(cfg, SimpleNamespace(config_file="", eval_only=False))
"""


@pytest.mark.parametrize(
    ("name", "level", "shown"),
    [
        ("detectron2", logging.INFO, False),
        ("detectron2.data.common", logging.INFO, False),
        ("detectron2.data.common", logging.WARNING, True),
        ("detectron2.evaluation.evaluator", logging.INFO, False),
        ("fvcore.common.checkpoint", logging.INFO, True),
        ("mask2former.engine.hooks.progress", logging.INFO, True),
    ],
)
def test_the_terminal_shows_what_a_person_needs(name: str, level: int, shown: bool) -> None:
    assert is_for_people(logging.LogRecord(name, level, "", 0, "text", (), None)) == shown


def test_other_warnings_about_extensions_are_shown() -> None:
    logger = "torch.utils.cpp_extension"
    for text, shown in (("No CUDA runtime is found, using CUDA_HOME='%s'", False), ("no compiler %s", True)):
        record = logging.LogRecord(logger, logging.WARNING, "", 0, text, ("x",), None)
        assert is_not_about_missing_cuda(record) == shown


def test_the_page_of_configuration_is_in_the_file_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SETUP, str(tmp_path)]
    environment = {**os.environ, "CUDA_HOME": str(tmp_path)}  # PyTorch says that it is no use without a GPU
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "No CUDA runtime" not in done.stderr
    assert "Everything goes to" in done.stdout and len(done.stdout.splitlines()) <= 3
    assert "DATASET_MAPPER_NAME" in (tmp_path / "log.txt").read_text()
    assert (tmp_path / "config.yaml").is_file()
