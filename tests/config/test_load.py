"""load_config: bases and options are merged, and errors name what to change."""

import logging

import pytest
import torch

from mask2former.config import ConfigError, load_config


def write(path, text):
    path.write_text(text)
    return str(path)


def test_defaults_bases_and_options(tmp_path):
    write(tmp_path / "base.yaml", "SOLVER: {BASE_LR: 0.5, MAX_ITER: 7}\n")
    child = write(tmp_path / "child.yaml", "_BASE_: base.yaml\nSOLVER: {MAX_ITER: 9}\n")
    cfg = load_config(child, ["MODEL.MASK_FORMER.NHEADS", "4"])
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.MODEL.MASK_FORMER.NHEADS) == (0.5, 9, 4)
    assert load_config().SOLVER.OPTIMIZER == "ADAMW"


def test_missing_file_names_it_and_a_neighbour(tmp_path):
    write(tmp_path / "panoptic.yaml", "")
    with pytest.raises(ConfigError, match=r"panoptik\.yaml: no such.*Did you mean .*panoptic\.yaml"):
        load_config(str(tmp_path / "panoptik.yaml"))


def test_missing_base_names_both_files(tmp_path):
    child = write(tmp_path / "child.yaml", "_BASE_: gone.yaml\n")
    with pytest.raises(ConfigError, match=r"child\.yaml: its _BASE_ names .*gone\.yaml"):
        load_config(child)


def test_unknown_key_in_a_file_names_it_and_the_closest(tmp_path):
    path = write(tmp_path / "a.yaml", "MODEL: {MASK_FORMER: {N_HEADS: 3}}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml.*MODEL\.MASK_FORMER\.N_HEADS.*mean MODEL\.MASK_FORMER\.NHEADS\?"):
        load_config(path)


def test_unknown_option_names_it_and_the_closest():
    with pytest.raises(ConfigError, match=r"unknown key SOLVER\.BASE_LT.*Did you mean SOLVER\.BASE_LR\?"):
        load_config(None, ["SOLVER.BASE_LT", "1"])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "MODEL.MASK_FORMER.LOSS_TERMS",
            "[ClassLoss]",
            r"LOSS_TERMS is a list, such as \[.*; found text, \[ClassLoss\]\. Names in a list have quotes",
        ),
        ("SOLVER.MAX_ITER", "many", r"SOLVER\.MAX_ITER is a whole number, such as \d+; found text, many\.$"),
        ("MODEL.MASK_FORMER", "5", r"MODEL\.MASK_FORMER is a group of keys; found a whole number, 5\.$"),
    ],
)
def test_value_of_another_kind_says_which_is_wanted(key, value, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, [key, value])


def test_flag_after_the_options_is_explained():
    with pytest.raises(ConfigError, match="Flags such as --eval-only go before"):
        load_config(None, ["SOLVER.MAX_ITER", "1", "--eval-only"])


def test_code_is_refused_with_its_line_and_not_run(tmp_path):
    proof = tmp_path / "ran"
    path = write(
        tmp_path / "code.yaml",
        f"SOLVER:\n  MAX_ITER: 5\n  STEPS: !!python/object/apply:os.mkdir [{str(proof)!r}]\n",
    )
    with pytest.raises(ConfigError, match=r"code\.yaml, line 3.*refused"):
        load_config(path)
    assert not proof.exists()


def test_code_is_refused_in_a_base_too(tmp_path):
    write(tmp_path / "base.yaml", '\nINPUT: {MIN_SIZE_TRAIN: !!python/object/apply:eval ["[len(())]"]}\n')
    path = write(tmp_path / "child.yaml", "_BASE_: base.yaml\n")
    with pytest.raises(ConfigError, match=r"base\.yaml, line 2"):
        load_config(path)
    assert load_config(path, allow_unsafe=True).INPUT.MIN_SIZE_TRAIN == (0,)


def test_broken_yaml_names_file_and_line(tmp_path):
    path = write(tmp_path / "broken.yaml", "SOLVER:\n  A: [1\n  B: 2\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml, line \d: not valid YAML"):
        load_config(path)


def test_no_gpu_falls_back_to_the_cpu_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level(logging.WARNING, "mask2former"):
        assert load_config(None, ["MODEL.DEVICE", "cuda"]).MODEL.DEVICE == "cpu"
    assert "running on the CPU" in caplog.text
    caplog.clear()
    assert load_config(None, ["MODEL.DEVICE", "cpu"]).MODEL.DEVICE == "cpu"
    assert not caplog.text


def test_gpu_is_kept_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert load_config(None, ["MODEL.DEVICE", "cuda:1"]).MODEL.DEVICE == "cuda:1"


def test_unknown_key_of_a_published_file_is_named(tmp_path):
    path = write(tmp_path / "a.yaml", "MODEL: {MASK_FORMER: {SOME_NEW_KEY: 3}}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml.*unknown key MODEL\.MASK_FORMER\.SOME_NEW_KEY"):
        load_config(path)


def test_file_of_detectron2s_first_version_is_brought_up_to_date(tmp_path):
    path = write(tmp_path / "old.yaml", "VERSION: 1\nMODEL: {WEIGHT: old.pkl}\n")
    cfg = load_config(path)
    assert cfg.MODEL.WEIGHTS == "old.pkl" and cfg.VERSION == 2
    with pytest.raises(ConfigError, match="VERSION"):
        load_config(write(tmp_path / "later.yaml", "VERSION: 99\n"))
