"""Going back to the newest whole checkpoint, whatever an interruption has left behind."""

from __future__ import annotations

import logging
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mask2former import Predictor
from mask2former.checkpoint import MaskFormerCheckpointer
from mask2former.checkpoint.whole import damage, newest_whole


class Progress:
    """Stand for a trainer's part of a checkpoint, as far as it is read here."""

    iteration = 0

    def state_dict(self):
        return {"iteration": self.iteration}

    def load_state_dict(self, state):
        self.iteration = state["iteration"]


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of three iterations; every weight is the iteration's number."""
    model, progress = nn.Linear(40, 50), Progress()
    checkpointer = MaskFormerCheckpointer(model, str(tmp_path), trainer=progress)
    for name, progress.iteration in (("model_0000009", 9), ("model_0000019", 19), ("model_final", 29)):
        nn.init.constant_(model.weight, progress.iteration)
        checkpointer.save(name)
    return tmp_path


def resumed(folder: Path) -> int:
    """Resume a new model, and return the iteration of its weights, or -1 if it found none."""
    model, progress = nn.Linear(40, 50), Progress()
    nn.init.constant_(model.weight, -1)
    progress.iteration = -1
    checkpointer = MaskFormerCheckpointer(model, str(folder), trainer=progress)
    assert checkpointer.has_checkpoint() == bool(checkpointer.get_checkpoint_file())
    checkpointer.resume_or_load("", resume=True)
    assert bool((model.weight == progress.iteration).all())
    return progress.iteration


def test_the_tagged_file_is_taken_without_a_word(folder, caplog):
    with caplog.at_level(logging.WARNING):
        assert resumed(folder) == 29
    assert not caplog.records
    (folder / "last_checkpoint").write_text("model_0000009.pth")  # the user's own choice
    assert resumed(folder) == 9


@pytest.mark.parametrize("tag", ["", "model_00000", "model_final.pth\0\0\0", "../elsewhere.pth", "\xff\xfe", None])
def test_a_damaged_tag_goes_back_to_the_newest_file(folder, tag, caplog):
    tagged = folder / "last_checkpoint"
    tagged.unlink() if tag is None else tagged.write_bytes(tag.encode("latin-1"))
    with caplog.at_level(logging.WARNING):
        assert resumed(folder) == 29
    assert "last_checkpoint" in caplog.text and "Going back to" in caplog.text and "iteration 29" in caplog.text


def test_generated_damage_of_the_newest_file(folder, caplog):
    """Cut at any byte, filled with zeros as after a power cut, or one byte changed where weights are."""
    rng = np.random.default_rng(0)
    final = folder / "model_final.pth"
    content = final.read_bytes()
    weights = content.index(np.float32(29).tobytes() * 100)
    damaged = [content[: rng.integers(len(content))] for _ in range(40)]
    damaged += [content[:cut] + bytes(len(content) - cut) for cut in rng.integers(len(content) - 200, size=20)]
    for place in weights + rng.integers(4 * 2000, size=20):
        damaged.append(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
    for number, one in enumerate(damaged):
        final.write_bytes(one)
        assert damage(final)
        if number % 10 == 0:
            assert resumed(folder) == 19
    assert "Going back to" in caplog.text
    (folder / "model_0000019.pth").write_bytes(content[:1000])
    assert resumed(folder) == 9
    (folder / "model_0000009.pth").write_bytes(b"")
    assert newest_whole(folder) is None and resumed(folder) == -1
    assert "No other file" in caplog.text


@pytest.fixture
def without_checksums():
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    yield
    torch.serialization.set_crc32_options(before)


def test_checkpoints_without_checksums(without_checksums, folder, caplog):
    """Find a file that was cut off, a table that was overwritten, parts that are not there."""
    with caplog.at_level(logging.WARNING):
        assert newest_whole(folder) == folder / "model_final.pth"
        assert resumed(folder) == 29
    assert not caplog.records
    final = folder / "model_final.pth"
    content = final.read_bytes()
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(final) as archive:
        assert not any(part.CRC for part in archive.infolist())
        starts = [part.header_offset for part in archive.infolist()]
        table = archive.start_dir
    damaged = [content[: rng.integers(len(content))] for _ in range(20)]
    damaged += [content[:cut] + bytes(len(content) - cut) for cut in rng.integers(len(content) - 200, size=10)]
    damaged += [content[:start] + bytes(30) + content[start + 30 :] for start in starts]
    longer = (int.from_bytes(content[table + 24 : table + 28], "little") + (1 << 20)).to_bytes(4, "little")
    damaged.append(content[: table + 20] + longer * 2 + content[table + 28 :])  # the size of the first part
    for one in damaged:
        final.write_bytes(one)
        assert damage(final)
    assert newest_whole(folder) == folder / "model_0000019.pth"
    assert resumed(folder) == 19


def test_files_of_others_are_not_resumed(folder):
    """Weights alone, such as pretrained ones that somebody put there."""
    torch.save({"model": {"weight": torch.zeros(50, 40)}}, folder / "z_pretrained.pth")
    (folder / "model_final.pth").unlink()
    assert resumed(folder) == 19


def test_a_file_without_a_table_of_contents(folder):
    """The format of PyTorch before 1.6."""
    state = torch.load(folder / "model_final.pth", weights_only=True)
    torch.save(state, folder / "model_final.pth", _use_new_zipfile_serialization=False)
    assert resumed(folder) == 29
    content = (folder / "model_final.pth").read_bytes()
    (folder / "model_final.pth").write_bytes(content[: len(content) // 2])
    assert resumed(folder) == 19


def test_there_is_nothing_to_go_on_from(tmp_path, caplog):
    assert resumed(tmp_path) == -1 and resumed(tmp_path / "nowhere") == -1
    assert not caplog.records


def test_names_of_checkpoints_have_no_folder(tmp_path):
    with pytest.raises(ValueError, match=r"not contain a folder; found '\.\./a'"):
        MaskFormerCheckpointer(nn.Linear(1, 1), str(tmp_path)).save("../a")


def test_the_predictor_goes_back_too(small_training, tmp_path, caplog):
    shutil.copytree(small_training, tmp_path, dirs_exist_ok=True)
    final = tmp_path / "model_final.pth"
    state = torch.load(final, weights_only=True)
    torch.save({**state, "trainer": {"iteration": 499}}, tmp_path / "model_0000499.pth")
    (tmp_path / "last_checkpoint").write_text("model_final.pth")
    final.write_bytes(final.read_bytes()[:5000])
    with caplog.at_level(logging.WARNING):
        Predictor(tmp_path)
    assert "model_final.pth cannot be used" in caplog.text and "model_0000499.pth" in caplog.text
    (tmp_path / "model_0000499.pth").unlink()
    with pytest.raises(ValueError, match=r"model_final\.pth cannot be used .* no other complete checkpoint"):
        Predictor(tmp_path)
