"""Files are whole or not there: full disks, errors half-way, kills."""

from __future__ import annotations

import errno
import io
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler
from torture import TORTURE

from mask2former.checkpoint.weights_io import read, write
from mask2former.files import cut_partial_line, remove_leftovers, whole_file, whole_path, write_by, write_text
from mask2former.visualization.save_image import save_image

LIMIT = 100_000  # bytes, of a file while the disk is "full"
WEIGHTS = {"a": torch.arange(200_000.0)}


@pytest.fixture
def full_disk():
    """Refuse to let a file grow over LIMIT, which is an OSError like that of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


WRITERS = {
    "report.html": lambda path: write_text(path, "x" * 10 * LIMIT),
    "model.pth": lambda path: write(WEIGHTS, str(path)),
    "model.pkl": lambda path: write(WEIGHTS, str(path)),
    "model.safetensors": lambda path: write(WEIGHTS, str(path)),
    "drawn.png": lambda path: save_image(path, np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("before", [None, b"the old content"])
def test_a_full_disk_is_told_with_the_name_and_leaves_the_old_file(tmp_path, full_disk, name, before):
    path = tmp_path / name
    if before:
        path.write_bytes(before)
    with pytest.raises(OSError, match=name) as caught:
        WRITERS[name](path)
    assert "File too large" in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ([name] if before else [])
    assert not before or path.read_bytes() == before


@pytest.mark.parametrize("name", WRITERS)
def test_written_files_have_the_permissions_of_others(tmp_path, name):
    (tmp_path / "plain").touch()
    WRITERS[name](tmp_path / name)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([name, "plain"])
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_an_error_half_way_leaves_the_old_file(tmp_path):
    file = write_text(tmp_path / "page.html", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "new \ud800")
    with pytest.raises(ZeroDivisionError), whole_file(file) as out:
        out.write(b"new")
        out.write(b"%d" % (1 // 0))
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    file = write_text(tmp_path / "a.txt", "old")
    os.chmod(file, 0o640)
    with whole_file(file, "w") as out:
        out.write("new")
        out.flush()
        assert file.read_text() == "old"
    assert file.read_text() == "new" and stat.S_IMODE(file.stat().st_mode) == 0o640


def test_links_and_devices_stay_what_they_are(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target = write_text(tmp_path / "elsewhere" / "target", "old")
    (tmp_path / "link").symlink_to(target)
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and target.read_text() == "new"
    write_text("/dev/null", "gone")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(OSError, match="/dev/full"):
        write_text("/dev/full", "x" * LIMIT)


def test_folders_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere/a\.txt"):
        write_text(tmp_path / "nowhere" / "a.txt", "")


def test_programs_that_write_by_name_get_the_suffix(tmp_path):
    names = []
    write_by(tmp_path / ("n" * 250 + ".onnx"), lambda name: (names.append(name), Path(name).write_text("x")))
    assert names[0].endswith(".onnx") and [file.read_text() for file in tmp_path.iterdir()] == ["x"]
    with pytest.raises(ZeroDivisionError):
        write_by(tmp_path / "b.onnx", lambda name: (Path(name).write_text("x"), 1 // 0))
    assert len(list(tmp_path.iterdir())) == 1


class Elsewhere(PathHandler):
    """Another computer's files, which are in a folder of this one."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def _get_supported_prefixes(self):
        return ["elsewhere://"]

    def _open(self, path, mode="r", buffering=-1, **options):
        return open(self.folder / path.removeprefix("elsewhere://"), mode, buffering, **options)


@pytest.mark.parametrize("kind", [str, Path])
def test_addresses_are_written_by_the_path_manager(tmp_path, monkeypatch, kind):
    (tmp_path / "bucket").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    PathManager.register_handler(Elsewhere(tmp_path), allow_override=True)
    address = kind("elsewhere://bucket/a.txt")
    write_text(address, "hé\n")
    assert (tmp_path / "bucket" / "a.txt").read_bytes() == "hé\n".encode()
    with pytest.raises(ZeroDivisionError), whole_file(address) as out:
        out.write(b"%d" % (1 // 0))
    assert (tmp_path / "bucket" / "a.txt").read_bytes() == "hé\n".encode(), "nothing is sent after an error"
    with whole_file(kind("elsewhere://bucket/w.pth")) as out:
        torch.save(WEIGHTS, out)
    assert torch.equal(torch.load(tmp_path / "bucket" / "w.pth", weights_only=True)["a"], WEIGHTS["a"])
    assert not list(Path().iterdir())


def test_a_folder_whose_name_ends_in_a_colon_is_local(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("elsewhere:").mkdir()
    write_text(Path("elsewhere:", "a.txt"), "here")
    assert (tmp_path / "elsewhere:" / "a.txt").read_text() == "here"


def test_file_systems_without_permissions_and_flushed_folders(tmp_path, monkeypatch):
    """Refuse to sync folders, as CIFS and FUSE may: the new file is there all the same."""
    flush = os.fsync

    def flush_files_alone(number: int) -> None:
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        flush(number)

    def refuse(path: object, mode: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fsync", flush_files_alone)
    monkeypatch.setattr(os, "chmod", refuse)
    for text in ("old", "new"):
        write_text(tmp_path / "a.txt", text)
        assert (tmp_path / "a.txt").read_text() == text
    write(WEIGHTS, str(tmp_path / "a.safetensors"))
    assert len(list(tmp_path.iterdir())) == 2


def test_only_our_temporary_files_are_leftovers(tmp_path):
    kept = [".x.partial", ".x.part", "x.0123abcd.part", ".x.0123abcd.part.d.e", ".x.0123abcg.part", ".parts"]
    for name in kept:
        (tmp_path / name).touch()
    ours = []
    for name in ("a b.json", ".hidden", "plain"):
        with whole_path(tmp_path / name) as temporary:
            ours.append(temporary.name)
    write_by(tmp_path / "a.onnx", lambda name: (ours.append(Path(name).name), Path(name).touch()))
    for file in tmp_path.iterdir():
        if file.name not in kept:
            file.unlink()
    for name in ours:
        (tmp_path / name).touch()
    assert sorted(file.name for file in remove_leftovers(tmp_path)) == sorted(ours)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(kept)


@pytest.mark.parametrize(("content", "left"), [("", ""), ("{}\n", "{}\n"), ("{}\n{}\n{'a", "{}\n{}\n"), ("{'a", "")])
def test_a_line_without_an_end_is_cut(tmp_path, content, left):
    (tmp_path / "metrics.json").write_text(content)
    cut_partial_line(tmp_path / "metrics.json")
    cut_partial_line(tmp_path / "nothing.json")
    assert (tmp_path / "metrics.json").read_text() == left


WRITING = """
import sys, itertools, torch
from pathlib import Path
from torch import nn
from mask2former.checkpoint import MaskFormerCheckpointer
from mask2former.files import write_text
folder = sys.argv[1]
model = nn.Linear(700, 700)
checkpointer = MaskFormerCheckpointer(model, folder)
print("ready", flush=True)
for i in itertools.count():
    nn.init.constant_(model.weight, i)
    checkpointer.save("model_final", iteration=i)
    write_text(Path(folder, "scores.json"), str(i) * 300_000 + "!")
"""


def kill_while_writing(folder: Path, seconds: float) -> None:
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", WRITING, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def assert_whole(folder: Path) -> None:
    for file in folder.iterdir():
        if file.name.startswith("."):
            continue
        if file.suffix == ".pth":
            content = read(str(file))
            assert bool((content["model"]["weight"] == content["iteration"]).all())
        elif file.name == "last_checkpoint":
            assert file.read_text() == "model_final.pth"
        else:
            text = file.read_text()
            assert text.endswith("!") and len(set(text)) <= 11


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=TORTURE)])
def test_killed_writers_leave_whole_files(tmp_path, kills):
    moments = np.random.default_rng(kills).uniform(0, 0.5, kills)
    for seconds in moments:
        kill_while_writing(tmp_path, seconds)
        assert_whole(tmp_path)
    remove_leftovers(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} <= {"model_final.pth", "scores.json", "last_checkpoint"}
    assert (tmp_path / "model_final.pth").is_file()


def test_what_is_written_into_is_a_file_to_others(tmp_path):
    """torch.export.save warns of anything else, and says that it will refuse it."""
    with whole_file(tmp_path / "a", "wb") as file:
        assert isinstance(file, io.IOBase) and file.writable() and file.seekable()
        file.write(b"1")
    assert (tmp_path / "a").read_bytes() == b"1"
