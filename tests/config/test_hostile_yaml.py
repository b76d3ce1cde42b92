"""Configuration files from strangers: none hangs or takes memory without end, and every error names the file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torture import TORTURE

CONFIGS = Path(__file__).parents[2] / "configs"
# Loads the files it is given with 2 GB of memory beyond what it has, and prints for each: seconds, what became of it.
# A file of over 20 seconds ends the process.
LOAD = """
import faulthandler, resource, sys, time
from mask2former.config import load_config
from mask2former.config.safe_yaml import ConfigError
held = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (held + (2 << 30),) * 2)
for path in sys.stdin.read().split():
    faulthandler.dump_traceback_later(20, exit=True)
    started = time.perf_counter()
    try:
        load_config(path)
        found = "loaded"
    except ConfigError as error:
        found = "named" if path in str(error) or str(error).startswith("/dev/zero: ") else f"unnamed {error!r}"
    except Exception as error:
        found = f"bare {error!r}"
    print(path, time.perf_counter() - started, found.replace("\\n", " ")[:200])
"""
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited by Linux's means")


def outcomes(paths: list[Path]) -> dict[str, tuple[float, str]]:
    """Return seconds and outcome ("loaded", "named", ...) of each file, by its name."""
    command, names = [sys.executable, "-c", LOAD], "\n".join(map(str, paths))
    done = subprocess.run(command, input=names, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-2000:]
    lines = [line.split(" ", 2) for line in done.stdout.splitlines()]
    return {Path(path).name: (float(seconds), found) for path, seconds, found in lines}


def evaluated(expression: str) -> str:
    return f'INPUT:\n  MIN_SIZE_TRAIN: !!python/object/apply:eval ["{expression}"]\n'


def alias_bomb(opening: str, closing: str) -> str:
    lines = [f"a0: &a0 {opening}1{closing}" if opening == "[" else "a0: &a0 {x: 1}"]
    for level in range(1, 30):
        refer = [f"*a{level - 1}"] * 9
        body = ", ".join(refer if opening == "[" else (f"k{n}: {one}" for n, one in enumerate(refer)))
        lines.append(f"a{level}: &a{level} {opening}{body}{closing}")
    return "\n".join(lines)


def merge_bomb() -> str:
    lines = ["m0: &m0 {x: 1}"]
    lines += [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}], k{n}: 1}}" for n in range(1, 30)]
    return "\n".join(lines)


HOSTILE = {
    "min": evaluated("min(x for x in range(10**12))"),
    "max": evaluated("[max(int(x * 0.1 * y) for y in range(10**12)) for x in range(5, 21)]"),
    "range": evaluated("[int(x * 0.1 * 640) for x in range(5, 999999999999)]"),
    "power": evaluated("9**9**9"),
    "import": evaluated("__import__('os').getpid()"),
    "lists": alias_bomb("[", "]"),
    "mappings": alias_bomb("{", "}"),
    "merges": merge_bomb(),
    "cycle": "MODEL: &m {META: *m}",
    "own_list": "a: &a [*a]",
    "base_60": "SOLVER:\n  MAX_ITER: " + ":".join(["59"] * 200_000),
    "base_60_float": "SOLVER:\n  BASE_LR: " + ":".join(["59"] * 200_000) + ".5",
    "digits": "SOLVER:\n  MAX_ITER: " + "9" * 900_000,
    "binary": "SOLVER:\n  MAX_ITER: 0b" + "1" * 900_000,
    "keys": "\n".join(f"{n * (2**61 - 1)}: 1" for n in range(9000)),
    "colliding": "\n".join(f"{n * (2**61 - 1)}: 1" for n in range(4900)),
    "deep": "[" * 100_000,
    "deep_blocks": "\n".join(" " * n + "a:" for n in range(1000)),
    "dashes": "- " * 100_000,
    "anchors": "\n".join(f"a{n}: &a{n} 1" for n in range(40_000)),
    "date": "a: 2001-99-99",
    "tag": "a: !!python/name:os.system",
    "unhashable": "? [1, 2]\n: 1",
    "set": "a: !!set {[1]: }",
    "numbers": "1: 2",
    "none": "~: 2",
    "two": "a: 1\n---\nb: 2",
    "nul": "a: \0",
    "escape": 'a: "\\ud800"',
    "base_number": "_BASE_: 3",
    "base_url": "_BASE_: https://example.invalid/a.yaml",
    "base_hub": "_BASE_: [detectron2://a.yaml]",
    "base_folder": "_BASE_: /",
    "base_device": "_BASE_: /dev/zero",
}


@linux
def test_hostile_files_are_refused_at_once(tmp_path: Path) -> None:
    for name, text in HOSTILE.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00 a: 1")
    found = outcomes([tmp_path / name for name in [*HOSTILE, "bytes"]])
    assert {name: outcome for name, outcome in found.items() if outcome[1] != "named"} == {}
    assert {name: seconds for name, (seconds, _) in found.items() if seconds > 5} == {}
    assert len(found) == len(HOSTILE) + 1


def mutated(text: str, rng: np.random.Generator) -> str:
    """Return a file with lines left out, doubled, moved in or out, values exchanged, and characters put in."""
    lines = text.splitlines()
    for _ in range(int(rng.integers(1, 5))):
        one, other = (int(n) for n in rng.integers(len(lines), size=2))
        match int(rng.integers(6)):
            case 0:
                lines[one] = lines[one][: int(rng.integers(len(lines[one]) + 1))]
            case 1:
                lines.insert(one, lines[other])
            case 2:
                lines[one] = " " * int(rng.integers(5)) + lines[one]
            case 3:
                lines[one] = lines[one].split(":")[0] + ":" + lines[other].split(":")[-1]
            case 4:
                place = int(rng.integers(len(lines[one]) + 1))
                lines[one] = (
                    lines[one][:place] + str(rng.choice(list("&*!?-:[]{}\"'|>%@`#~\t0.,"))) + lines[one][place:]
                )
            case 5:
                lines[one] = lines[one].lstrip()
    return "\n".join(lines)


@linux
@pytest.mark.parametrize(
    ("count", "seed"), [(100, 0), pytest.param(1000, 1, marks=TORTURE)], ids=["quick", "thousands"]
)
def test_damaged_files_load_or_say_what_is_wrong(tmp_path: Path, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sources = sorted(CONFIGS.rglob("*.yaml"))
    shutil.copytree(CONFIGS, tmp_path, dirs_exist_ok=True)  # where _BASE_ leads to
    paths = []
    for number in range(count):
        source = sources[int(rng.integers(len(sources)))]
        paths.append(tmp_path / source.relative_to(CONFIGS).with_name(f"{number}.yaml"))
        text = source.read_text()
        paths[-1].write_text(mutated(text, rng))
    found = outcomes(paths)
    assert len(found) == count
    print({kind: sum(outcome == kind for _, outcome in found.values()) for kind in ("loaded", "named")})
    assert {name: outcome for name, outcome in found.items() if outcome[1] not in ("loaded", "named")} == {}
    assert max(seconds for seconds, _ in found.values()) < 5
