"""The program's words: help without heavy imports, mistakes, and that parsers agree with the package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from mask2former.backends import BACKENDS
from mask2former.checkpoint.formats import TARGETS
from mask2former.config import ConfigError, load_config
from mask2former.data.images.limits import MAX_PIXELS
from mask2former.export import BARE, OUTPUTS
from mask2former.export.programs import DTYPES
from mask2former.predictor import default_model, result
from mask2former.visualization import INSTANCE_THRESHOLD, MODES, RESULTS
from mask2former_cli import COMMANDS, choices
from mask2former_cli.main import main

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    "train_net.py": "train",
    "demo/demo.py": "predict",
    "demo/app.py": "app",
    "tools/train_custom.py": "train-custom",
    "tools/check_dataset.py": "check",
    "tools/convert.py": "convert",
    "tools/export.py": "export",
    "tools/dashboard.py": "report",
    "tools/draw_predictions.py": "draw",
    "tools/analyze.py": "analyze",
}
# Runs each help of a list in one process, and says what was imported by the end.
HELPS = """
import runpy, sys
sys.path.insert(0, {root!r})
for words in {commands!r}:
    sys.argv = words
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as stopped:
        assert stopped.code in (0, None), (words, stopped.code)
print("imported:", *sorted({{"torch", "detectron2", "numpy", "mask2former"}} & sys.modules.keys()))
"""


def helps(commands: list[list[str]]) -> str:
    code = HELPS.format(root=str(ROOT), commands=commands)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_imports_nothing_heavy() -> None:
    program = str(ROOT / "mask2former_cli" / "main.py")
    said = helps([[program], [program, "--help"], *([program, name, "--help"] for name in COMMANDS)])
    assert said.splitlines()[-1] == "imported:"
    assert all(f"usage: mask2former {name} " in said for name in COMMANDS)
    assert all(command.summary in said for command in COMMANDS.values())


def test_scripts_answer_as_their_commands_do() -> None:
    said = helps([[str(ROOT / script), "--help"] for script in SCRIPTS])
    assert said.splitlines()[-1] == "imported:"
    for script, name in SCRIPTS.items():
        file = Path(script).name
        ours = import_module(COMMANDS[name].grammar).parser(file).format_help()
        assert ours in said and f"usage: {file} " in ours


def test_every_example_can_be_parsed() -> None:
    """Each line of each help that begins with the program's name, as the shell would split it."""
    import shlex

    found = 0
    for name, command in COMMANDS.items():
        parser = import_module(command.grammar).parser(f"mask2former {name}")
        text = re.sub(r"\\\n\s*", "", parser.epilog or "")  # commands over two lines
        lines = [line.strip() for line in text.splitlines() if line.strip().startswith("%(prog)s")]
        for line in lines:
            words = line.split("   ")[0].removeprefix("%(prog)s")
            assert parser.parse_args(shlex.split(words))
        found += len(lines)
    assert found > 40


def test_choices_are_those_of_the_package() -> None:
    assert choices.DEFAULT_MODEL == default_model.DEFAULT_MODEL
    assert set(choices.TASKS) == set(RESULTS)
    assert choices.MODES == MODES
    assert choices.LABELS == result.LABELS
    assert choices.INSTANCE_THRESHOLD == INSTANCE_THRESHOLD
    assert choices.MAX_PIXELS == MAX_PIXELS
    assert set(choices.WEIGHT_FORMATS) == set(TARGETS)
    assert set(choices.EXPORTED_RESULTS) == {*OUTPUTS, BARE}
    assert choices.BACKENDS == BACKENDS
    assert set(choices.EXPORT_DTYPES) == set(DTYPES)


def test_training_takes_what_detectron2_does() -> None:
    """Every flag of its parser, with its default, so that scripts written for it go on working."""
    from detectron2.engine import default_argument_parser

    from mask2former_cli.train import parser

    theirs, ours = (vars(one.parse_args([])) for one in (default_argument_parser(), parser("train_net.py")))
    assert {key: ours[key] for key in theirs} == theirs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predikt"], "predikt is no command: did you mean predict?"),
        (["xyz"], "xyz is no command: choose from predict, "),
        (["--nothing"], "unrecognized arguments: --nothing"),
    ],
)
def test_mistakes(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert message in capsys.readouterr().err


def test_without_detectron2_a_command_names_the_doctor() -> None:
    hidden = (
        "import sys; sys.modules['detectron2'] = None; from mask2former_cli import main; sys.exit(main.main(['ops']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("error: Detectron2 is not installed. `mask2former doctor --install-detectron2`")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["coco/panoptic/r50", "configs/coco/panoptic/r50.yaml", "coco/panoptic/r50.yaml"])
def test_configurations_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where there are no configs
    assert load_config(name).dump() == load_config(str(ROOT / "configs/coco/panoptic/r50.yaml")).dump()
    with pytest.raises(ConfigError, match=r"r5: no such configuration file.*Did you mean coco/panoptic/r5"):
        load_config("coco/panoptic/r5")
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_config("../configs/coco/panoptic/r50")


def test_a_file_takes_precedence_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "coco" / "panoptic").mkdir(parents=True)
    (tmp_path / "coco" / "panoptic" / "r50.yaml").write_text("SEED: 1234\n")
    monkeypatch.chdir(tmp_path)
    assert load_config("coco/panoptic/r50.yaml").SEED == 1234
