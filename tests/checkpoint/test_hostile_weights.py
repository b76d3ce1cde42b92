"""Files of weights from strangers: none hangs, none takes memory without end, and every error names the file."""

from __future__ import annotations

import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torture import TORTURE

from mask2former.checkpoint.weights_io import read, write

# Reads the files it is given with 3 GB of memory beyond what it has, and prints for each: seconds, what became of it.
# A file of over 20 seconds ends the process.
READ = """
import faulthandler, resource, sys, time
from mask2former.checkpoint.weights_io import read
held = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (held + (3 << 30),) * 2)
for path in sys.stdin.read().split():
    faulthandler.dump_traceback_later(20, exit=True)
    started = time.perf_counter()
    try:
        read(path)
        found = "read"
    except ValueError as error:
        found = "named" if str(error).startswith(f"{path} is not loaded: ") else f"bare {error!r}"
    except Exception as error:
        found = f"bare {error!r}"
    print(path, time.perf_counter() - started, found.replace("\\n", " ")[:200])
"""
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited by Linux's means")


def outcomes(paths: list[Path]) -> dict[str, tuple[float, str]]:
    """Return seconds and outcome ("read", "named", "bare ...") of each file, by its name."""
    command, names = [sys.executable, "-c", READ], "\n".join(map(str, paths))
    done = subprocess.run(command, input=names, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-2000:]
    lines = [line.split(" ", 2) for line in done.stdout.splitlines()]
    return {Path(path).name: (float(seconds), found) for path, seconds, found in lines}


def shared_tuples(depth: int) -> bytes:
    """A dict whose key is a tuple of two equal tuples, ``depth`` times: 2 ** depth values to hash."""
    twice = b"".join(b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(depth))
    return b"\x80\x02}K\x01K\x01\x86q\x000" + twice + b"K\x01s."


def zip_bomb(size: int) -> bytes:
    """An archive of torch.save whose record of zeros is compressed."""
    file, packed = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.zeros(size // 4)}, file)
    with zipfile.ZipFile(file) as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for record in plain.infolist():
            target.writestr(record.filename, plain.read(record))
    return packed.getvalue()


def overlapping(count: int) -> bytes:
    """An archive whose directory names the same record many times."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("a/data/0", bytes(1 << 20))
        for number in range(1, count):
            archive.filelist.append(archive.filelist[1])
            archive.NameToInfo[f"a/data/{number}"] = archive.filelist[1]
    return file.getvalue()


def repeated(times: int) -> bytes:
    """One text of a megabyte, decoded again and again."""
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x01"
    call = b"c_codecs\nencode\nh\x01X\x06\x00\x00\x00latin1\x86R"
    return b"\x80\x02" + b"]" + text + b"0(" + call * times + b"e."


def torch_bytes(data: object, **options: object) -> bytes:
    file = io.BytesIO()
    torch.save(data, file, **options)
    return file.getvalue()


HOSTILE: dict[str, bytes] = {
    "tuples.pkl": shared_tuples(60),
    "tuples.pth": shared_tuples(60),
    "memo.pkl": b"\x80\x02}r\xff\xff\xff\x0f.",
    "instructions.pkl": b"\x80\x02" + b"K\x000" * 1_000_000 + b"}.",
    "long.pkl": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "huge.pkl": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 45) + b"abc.",
    "repeated.pkl": repeated(5000),
    "deep.pkl": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "names.pkl": pickle.dumps({1: np.zeros(2)}, protocol=2),
    "model names.pkl".replace(" ", "_"): pickle.dumps({"model": {(1, 2): np.zeros(2)}}, protocol=2),
    "blobs.pkl": pickle.dumps({"blobs": [1]}, protocol=2),
    "names.pth": torch_bytes({"model": {1: torch.zeros(2)}}),
    "number.pth": torch_bytes(3),
    "expanded.pth": torch_bytes({"a": torch.zeros(1).expand(1 << 40)}),
    "expanded_legacy.pth": torch_bytes({"a": torch.zeros(1).expand(1 << 40)}, _use_new_zipfile_serialization=False),
    "overlapping.pth": overlapping(4000),
    "text.pth": b"no weights at all",
    "header.safetensors": struct.pack("<Q", 1 << 60) + b"{}",
    "outside.safetensors": (lambda head: struct.pack("<Q", len(head)) + head + bytes(4))(
        json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4 << 40]}}).encode()
    ),
    "nested.safetensors": struct.pack("<Q", 200_000) + b"[" * 200_000,
}


@linux
def test_hostile_files_are_refused_at_once(tmp_path: Path) -> None:
    files = HOSTILE | {"bomb.pth": zip_bomb(1 << 30), "small_bomb.pth": zip_bomb(1 << 16)}
    assert len(files["bomb.pth"]) < 2 << 20
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    found = outcomes([tmp_path / name for name in files])
    assert len(found) == len(files)
    assert {name: outcome for name, outcome in found.items() if outcome[1] != "named"} == {}
    assert {name: seconds for name, (seconds, _) in found.items() if seconds > 5} == {}


def test_sound_files_of_many_tensors_are_read(tmp_path: Path) -> None:
    """The limits are far from what is meant: 3,000 tensors with the state of an optimiser."""
    state = {f"layer.{number}.weight": torch.full((2,), float(number)) for number in range(3000)}
    rest = {"state": {number: {"exp_avg": torch.zeros(2), "step": 3} for number in range(3000)}}
    for name in ("a.pth", "b.pth", "a.pkl", "a.safetensors"):
        if name == "b.pth":
            torch.save({"model": state, "optimizer": rest, "iteration": 5}, tmp_path / name)
        else:
            write(state, str(tmp_path / name))
        loaded = read(str(tmp_path / name))["model"]
        assert all(torch.equal(torch.as_tensor(loaded[key]), value) for key, value in state.items())


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        start = int(rng.integers(min(len(data), 2000) if rng.random() < 0.7 else len(data)))
        match int(rng.integers(5)):
            case 0:
                data[start] = int(rng.integers(256))
            case 1:
                del data[start : start + int(rng.integers(1, 40))]
            case 2:
                data[start:start] = data[start : start + int(rng.integers(1, 40))]
            case 3:
                data[start:start] = rng.bytes(int(rng.integers(1, 9)))
            case 4:
                data[start : start + 4] = struct.pack("<I", int(rng.choice([0, 1, 1 << 16, 1 << 30, (1 << 32) - 1])))
        data = data or bytearray(b"x")
    return bytes(data)


def damaged_files(folder: Path, count: int, seed: int) -> list[Path]:
    """Write ``count`` damaged files of every format."""
    rng = np.random.default_rng(seed)
    state = {f"layer.{number}.weight": torch.rand(3, number + 1) for number in range(6)}
    arrays = {name: value.numpy() for name, value in state.items()}
    sound = {
        **{f"{protocol}.pkl": pickle.dumps({"model": arrays}, protocol=protocol) for protocol in (0, 2, 4)},
        "zip.pth": torch_bytes({"model": state, "iteration": 3}),
        "legacy.pth": torch_bytes({"model": state}, _use_new_zipfile_serialization=False),
    }
    write(state, str(folder / "sound.safetensors"))
    sound["plain.safetensors"] = (folder / "sound.safetensors").read_bytes()
    paths = []
    for name, content in sound.items():
        for number in range(count):
            paths.append(folder / f"{number}_{name}")
            paths[-1].write_bytes(mutated(content, rng))
    return paths


@linux
@pytest.mark.parametrize(("count", "seed"), [(60, 0), pytest.param(2000, 1, marks=TORTURE)], ids=["quick", "thousands"])
def test_damaged_files_are_read_or_named(tmp_path: Path, count: int, seed: int) -> None:
    paths = damaged_files(tmp_path, count, seed)
    found = outcomes(paths)
    assert len(found) == len(paths) == 6 * count
    print({kind: sum(outcome == kind for _, outcome in found.values()) for kind in ("read", "named")})
    assert {name: outcome for name, outcome in found.items() if outcome[1] not in ("read", "named")} == {}
    assert max(seconds for seconds, _ in found.values()) < 5
