"""Files of weights: kinds that are read and written, and hostile ones."""

from __future__ import annotations

import collections
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mask2former.checkpoint.safe_pickle import load_arrays
from mask2former.checkpoint.weights_io import read, write


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_survive(protocol: int) -> None:
    data = {
        "a": np.arange(6).reshape(2, 3),
        "b": np.float32(1.5),
        "c": [1, "x", None, (2.5, True)],
        "d": np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)),
        "e": np.arange(3, dtype=">f8"),
        "f": np.empty((0, 2), "f2"),
        "g": np.array(7),
        "h": collections.OrderedDict(x=np.array([True, False])),
    }
    data["same"] = data["a"]
    loaded = load_arrays(io.BytesIO(pickle.dumps(data, protocol=protocol)), "file.pkl")
    assert loaded.keys() == data.keys() and loaded["c"] == data["c"] and loaded["same"] is loaded["a"]
    for name in "abdefg":
        assert type(loaded[name]) is type(data[name]) and np.array_equal(loaded[name], data[name]), name
        assert loaded[name].dtype == data[name].dtype.newbyteorder("=") and loaded[name].shape == data[name].shape
    assert np.array_equal(loaded["h"]["x"], [True, False])
    assert all(loaded[name].flags.writeable for name in "adefg")


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable, *arguments: object, state: object = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple:
        return self.reduced


def disguised_pointer() -> Call:
    """An array of structures that hide an object, made of bytes that would be its address."""
    reconstruct = np.empty(0).__reduce__()[0]
    fields = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)
    kind = Call(np.dtype, "V8", False, True, state=fields)
    return Call(reconstruct, np.ndarray, (0,), b"b", state=(1, (1,), kind, False, b"A" * 8))


def disguised_type() -> Call:
    """The same by way of a type of numbers that turns into one of structures."""
    reconstruct = np.empty(0).__reduce__()[0]
    fields = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)
    return Call(
        reconstruct,
        np.ndarray,
        (0,),
        b"b",
        state=(1, (1,), Call(np.dtype, "f8", False, True, state=fields), False, b"A" * 8),
    )


HOSTILE = {
    "function": lambda ran: Call(Path.touch, ran),
    "eval": lambda ran: Call(eval, f"open({str(ran)!r}, 'w')"),
    "import": lambda ran: Call(__import__, "antigravity"),
    "getattr": lambda ran: Call(getattr, np.ndarray, "tofile"),
    "objects": lambda ran: np.array([None, 1], dtype=object),
    "structures": lambda ran: np.zeros(2, dtype=[("a", "f4"), ("b", "f4")]),
    "pointer": lambda ran: disguised_pointer(),
    "type": lambda ran: disguised_type(),
    "codec": lambda ran: Call(pickle.codecs.encode, "abc", "rot13"),
    "too short": lambda ran: Call(
        np.empty(0).__reduce__()[0], np.ndarray, (0,), b"b", state=(1, (9,), np.dtype("f4"), False, b"A" * 8)
    ),
    "no content": lambda ran: Call(np.empty(0).__reduce__()[0], np.ndarray, (0,), b"b"),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("protocol", [2, 4])
def test_pickles_hold_arrays_of_numbers_and_nothing_else(tmp_path: Path, what: str, protocol: int) -> None:
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"model": {"a": HOSTILE[what](tmp_path / "ran")}}, protocol=protocol))
    with pytest.raises(ValueError, match=r"evil\.pkl is not loaded: it "):
        read(str(path))
    assert not (tmp_path / "ran").exists()


def test_broken_files(tmp_path: Path) -> None:
    for suffix in (".pkl", ".pth", ".safetensors"):
        path = tmp_path / f"half{suffix}"
        write({"a": torch.rand(1000)}, str(path))
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(ValueError, match=f"half{suffix} is not loaded: .*(truncated|broken)"):
            read(str(path))
        path.write_bytes(b"")
        with pytest.raises(ValueError, match=f"half{suffix} is not loaded"):
            read(str(path))
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(ValueError, match="holds a list, not a dictionary of weights"):
        read(str(tmp_path / "list.pkl"))


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files_run_no_code(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"model": {"a": Call(Path.touch, tmp_path / "ran")}}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"evil\.pth is not loaded: .*could run code"):
        read(str(path))
    assert not (tmp_path / "ran").exists()


STATE = {
    "a": torch.rand(3, 4),
    "b": torch.arange(5),
    "c": torch.rand(2).half(),
    "d": torch.rand(6, 2).chunk(3)[1],
    "e": torch.tensor(2.5, dtype=torch.float64),
    "f": torch.rand(3, 4).T,
}


@pytest.mark.parametrize("name", ["a.pth", "a.bin", "a.pkl", "a.safetensors"])
@pytest.mark.parametrize("nested", [False, True])
def test_kinds_of_files(tmp_path: Path, name: str, nested: bool) -> None:
    path = str(tmp_path / name)
    write(STATE, path, nested=nested)
    loaded = {key: torch.as_tensor(value) for key, value in read(path)["model"].items()}
    assert loaded.keys() == STATE.keys()
    for key, value in loaded.items():
        assert value.dtype == STATE[key].dtype and torch.equal(value, STATE[key]), key


@pytest.mark.parametrize("legacy", [False, True])
def test_reading_in_place_gives_the_same(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model": STATE}, path, _use_new_zipfile_serialization=not legacy)
    before, loaded = path.read_bytes(), read(str(path), in_place=True)["model"]
    assert loaded.keys() == STATE.keys()
    for key, value in loaded.items():
        assert value.dtype == STATE[key].dtype and torch.equal(value, STATE[key]), key
        value.zero_()  # a private copy of the page
    assert path.read_bytes() == before


def test_bfloat16(tmp_path: Path) -> None:
    state = {"a": torch.rand(3).bfloat16()}
    write(state, str(tmp_path / "a.safetensors"))
    assert torch.equal(read(str(tmp_path / "a.safetensors"))["model"]["a"], state["a"])
    with pytest.raises(ValueError, match="lack bfloat16"):
        write(state, str(tmp_path / "a.pkl"))


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state"])
def test_where_programs_keep_the_model(tmp_path: Path, key: str) -> None:
    torch.save({key: {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "a.pth")
    loaded = read(str(tmp_path / "a.pth"))
    assert torch.equal(loaded["model"]["a"], torch.ones(2)) and loaded["epoch"] == 3
