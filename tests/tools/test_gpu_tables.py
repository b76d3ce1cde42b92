"""gpu_check's reading of compiled code, its tables of numbers, and the bundle: by numbers worked out by hand."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import make_gpu_bundle as bundle  # noqa: E402
from benchmarks.cases import Case  # noqa: E402
from benchmarks.gather import gathered  # noqa: E402
from gpu_steps import tables  # noqa: E402
from gpu_steps.kernels import Kernel, instructions, occupancy, resources  # noqa: E402
from gpu_steps.report import read, render  # noqa: E402

SPACE = "_ZN11mask2former60_GLOBAL__N__a6654951_22_ms_deform_attn_cuda_cu_a3d00d7a_6153"
FORWARD = f"{SPACE}14forward_kernelINS0_5FusedIN3c108BFloat16EEELi8EEEvNS_5SizesENS0_6LevelsEiT_PKNS8_5ValueEPS9_"
BACKWARD = f"{SPACE}15backward_kernelINS0_7ClassicIfEELi4ENS0_11FloatingSumIfEEEEvNS_5SizesENS0_6LevelsEiT_PKNS8_5"
FIXED = f"{SPACE}15backward_kernelINS0_5FusedIdEELi1ENS0_8FixedSumEEEvNS_5SizesENS0_6LevelsEiT_PKNS7_5ValueESA_T1_"
CONVERT = f"{SPACE}14convert_kernelIN3c104HalfEEEvPKyPKNS0_10FixedPointEdlPT_"
LARGEST = f"{SPACE}14largest_kernelIfEEvPKT_lPy"


@pytest.mark.parametrize(
    ("mangled", "kernel"),
    [
        (FORWARD, Kernel("forward", "fused", "bfloat16", 8, "")),
        (BACKWARD, Kernel("backward", "classic", "float32", 4, "floating")),
        (FIXED, Kernel("backward", "fused", "float64", 1, "fixed")),
        (CONVERT, Kernel("convert", "", "float16", 0, "")),
        (LARGEST, Kernel("largest", "", "float32", 0, "")),
        ("_ZN2at6native13reduce_kernelILi512EEEvT_", None),
    ],
)
def test_kernels_are_told_by_their_mangled_names(mangled: str, kernel: Kernel | None) -> None:
    assert Kernel.of(mangled) == kernel


@pytest.mark.parametrize(
    ("registers", "shared", "share"),
    [(32, 0, 1.0), (33, 0, 0.75), (64, 0, 0.5), (65, 0, 0.375), (128, 0, 0.25), (255, 0, 0.125), (16, 56 * 1024, 0.5)],
)
def test_occupancy_of_a_hopper_multiprocessor(registers: int, shared: int, share: float) -> None:
    """256 threads are 8 of 64 warps. 33 registers count as 40, of which 48 warps fit into 65536."""
    assert occupancy(registers, shared, "9.0") == share
    assert occupancy(registers, shared, "1.0") is None


def test_resources_of_each_kernel() -> None:
    log = "\n".join(
        [
            f"ptxas info    : Compiling entry function '{FORWARD}' for 'sm_90'",
            f"ptxas info    : Function properties for {FORWARD}",
            "    24 bytes stack frame, 20 bytes spill stores, 16 bytes spill loads",
            "ptxas info    : Used 40 registers, used 0 barriers, 24 bytes cumulative stack size, 8192 bytes smem",
            "ptxas info    : Compiling entry function 'other' for 'sm_90'",
            "ptxas info    : Used 9 registers, 360 bytes cmem[0]",
            f"ptxas info    : Compiling entry function '{LARGEST}' for 'sm_90'",
            "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads",
            "ptxas info    : Used 18 registers, 372 bytes cmem[0]",
        ]
    )
    found = resources(log, "9.0")
    assert list(found) == [Kernel.of(FORWARD), Kernel.of(LARGEST)]
    assert list(found[Kernel("forward", "fused", "bfloat16", 8, "")].values()) == [40, 8192, 24, 20, 16, 0.75]
    assert list(found[Kernel("largest", "", "float32", 0, "")].values()) == [18, 0, 0, 0, 0, 1.0]


@pytest.mark.parametrize(("branch", "together"), [("", 2), ("        /*0030*/                   @!P4 BRA 0x90 ;\n", 1)])
def test_instructions_are_counted_by_form(branch: str, together: int) -> None:
    assembly = f"""
\t\tFunction : {BACKWARD}
        /*0000*/                   LDC R1, c[0x0][0x28] ;
                                                                    /* 0x00000a00ff017b82 */
        /*0010*/              @!P0 LDG.E.128.CONSTANT R20, desc[UR28][R22.64] ;
{branch}        /*0040*/                   LDG.E.128.CONSTANT R24, desc[UR28][R26.64] ;
        /*0050*/                   REDG.E.ADD.F32x4.FTZ.RN.STRONG.GPU desc[UR16][R28.64], R32 ;
        /*0060*/                   LDL.LU R2, [R1+0x4] ;
        /*0070*/                   FFMA R16, R12.reuse, R20, R16 ;
"""
    (facts,) = instructions(assembly).values()
    assert facts["memory"] == {"LDG.128": 2, "LDL": 1, "REDG.ADD.F32x4": 1}
    assert facts["instructions"] == 6 + bool(branch) and facts["loads together"] == together


def test_gathered_bytes_by_hand() -> None:
    """Levels 1x1, 1x1, 1x2: four pixels ask, each with 8 heads, 3 levels, 4 points, 4 corners of 32 channels."""
    numbers = 4 * 8 * 3 * 4 * 4 * 32
    assert gathered(Case("8x16", "bfloat16", "near"), training=False) == numbers * 2
    assert gathered(Case("8x16", "float32", "near"), training=True) == numbers * (4 + 4 + 4)


def row(contestant: str, seconds: float, ratio: float) -> dict:
    case = {"size": "8x16", "dtype": "bfloat16", "locations": "near"}
    told = {
        "median": seconds,
        "ratio": ratio,
        "floor": 0.0005,
        "gather_floor": 0.0015,
        "peak": 3 * 2**20,
        "error": 2e-3,
    }
    return {"case": case, "contestant": contestant, "mode": "forward", **told}


STEPS = {
    "operator_times": {
        "status": "done",
        "machine": {"device": "Card X", "capability": "9.0", "driver": "580.1", "packages": {"torch": "2.11.0"}},
        "notes": {
            "limits": {
                "copied, bytes a second": 3e12,
                "multiply-adds a second": {"bfloat16": 4e14},
                "gathered, bytes a second": {"bfloat16": 5e12},
            }
        },
        "results": [{"case": "a", "rows": [row("fused", 0.002, 5.0), row("plain", 0.01, 1.0)]}],
    },
    "inference": {
        "status": "cut off",
        "output": "Killed",
        "results": [
            {
                "case": "r50 800x1067 batch 8 TF32",
                "rows": [
                    {
                        "name": "ours",
                        "seconds": 0.2,
                        "images a second": 40.0,
                        "peak": 2**20,
                        "parts": {"backbone": 0.1},
                    },
                    {"name": "huggingface", "seconds": 0.5, "images a second": 16.0, "peak": 2**21, "parts": {}},
                ],
            },
            {"case": "r50 graph", "error": "Traceback ...\nRuntimeError: no `capture`"},
        ],
    },
    "training": {
        "status": "done",
        "results": [
            {
                "case": "r50 batch 8",
                "rows": {
                    "ours": {"seconds": 0.25, "waits": 1, "parts": {"matching": 0.01}, "peak": 2**31},
                    "huggingface": {"unable": "OutOfMemoryError: too much"},
                },
            },
            {"case": "r50 largest batch, ours", "batch": 24, "seconds": 0.6, "images a second": 40.0},
        ],
    },
    "scores": {
        "status": "done",
        "notes": {"camvid": "not there"},
        "results": [
            {"case": "quickstart", "iterations": 640, "seconds": 61.0, "seconds of an iteration": 0.05}
            | {"scores": {"panoptic_seg/PQ": 76.24}}
        ],
    },
}


def cells(page: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]


def test_page_of_a_gpu_shows_what_was_measured() -> None:
    page = render(STEPS)
    lines = cells(page)
    assert "Nothing of this project has run" not in page and "Card X, with torch 2.11.0." in page
    assert ["driver", "580.1"] in lines and ["copy, read and written", "3.00 TB/s"] in lines
    (times,) = (line for line in lines if line[:4] == ["8x16", "bfloat16", "near", "forward"])
    assert times[4:] == ["2", "5.0", "25%", "75%", "3", "2e-03", "10"]
    (speed,) = (line for line in lines if line[0].startswith("r50 800x1067"))
    assert speed[1:] == ["40.0", "16.0", "2.50", "1", "2", "backbone 100.0"]
    assert ["r50 batch 8", "ours", "0.25", "1", "matching 10", "2.0", "", ""] in lines
    assert any(line[0] == "r50 largest batch, ours: 24" and "40.0" in line for line in lines)
    assert ["quickstart", "640", "61", "0.050", "76.2"] in lines and ["camvid", "not there", "", "", ""] in lines
    assert "- inference, r50 graph: `RuntimeError: no 'capture'`" in page
    assert "- inference, the step itself: `cut off; its last output: Killed`" in page


def test_later_run_adds_to_measurements_and_replaces_tests(tmp_path: Path) -> None:
    runs = {"early": ("X", {"a": 1, "b": 1}), "late": ("Y", {"b": 2, "c": 2})}
    for name, (card, cases) in runs.items():
        (tmp_path / name).mkdir()
        for step in ("training", "gpu_tests"):
            results = [{"case": case, "seconds": seconds} for case, seconds in cases.items()]
            content = {"step": step, "status": "done", "machine": {"device": card}, "results": results}
            (tmp_path / name / f"{step}.json").write_text(json.dumps(content))
    both = read([tmp_path / "early", tmp_path / "late"])
    found = {step: [(one["case"], one["seconds"], one["card"]) for one in both[step]["results"]] for step in both}
    assert found["training"] == [("a", 1, "X"), ("b", 2, "Y"), ("c", 2, "Y")]
    assert found["gpu_tests"] == [("b", 2, "Y"), ("c", 2, "Y")]
    (alone,) = [one for one in read([tmp_path / "late"])["training"]["results"] if one["case"] == "b"]
    assert "card" not in alone, "one card needs no column"


def test_committed_page_has_the_prose_of_today() -> None:
    """What stands in neither a condition nor a placeholder; `gpu_check.py --report` writes it."""
    page = (ROOT / "docs" / "gpu.md").read_text()
    prose = (ROOT / "tools" / "gpu_steps" / "page.md").read_text().split("## What limits the kernels")[1]
    for line in re.sub(r"\{%.*?%\}", "", prose).splitlines():
        if "{{" not in line and "This run did not read them" not in line:
            assert line.rstrip() in page, line


def test_tables_of_nothing_are_empty() -> None:
    for name in ("limits", "operator", "inference", "training", "scores", "kernels"):
        assert getattr(tables, name)({}) == ""


def test_names_of_a_file_or_of_a_line(tmp_path: Path) -> None:
    file = tmp_path / "held.txt"
    file.write_text("# a comment\nTorch\nhydra_core  # another\n\n")
    assert bundle.names_in(str(file)) == {"torch", "hydra-core"} == bundle.names_in("torch, Hydra.Core")


def test_requirements_are_those_of_the_named_python() -> None:
    lines = ["numpy==2.2.6 ; python_full_version < '3.11'", "numpy==2.5.5 ; python_full_version >= '3.12'", "# x"]
    lines += ["colorama==0.4.6 ; sys_platform == 'win32'"]
    assert {key: str(one.specifier) for key, one in bundle.requirements_of(lines, "3.12").items()} == {
        "numpy": "==2.5.5"
    }
    assert bundle.requirements_of(lines, "3.11") == {}


def test_needs_of_a_wheel_leave_extras_and_versions_out(tmp_path: Path) -> None:
    wheel = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        needs = [
            "Requires-Dist: PyYAML>=5.1",
            "Requires-Dist: pytest; extra == 'test'",
            "Requires-Dist: tomli; python_version < '3.11'",
        ]
        archive.writestr("x-1.dist-info/METADATA", "\n".join(["Metadata-Version: 2.1", "Name: x", *needs, "", ""]))
    needed = bundle.needs_of(wheel, "3.12")
    assert {key: str(one) for key, one in needed.items()} == {"pyyaml": "PyYAML"}


def test_everything_that_is_packed_has_a_version() -> None:
    pins = bundle.requirements_of(bundle.PINNED["all"].read_text().splitlines(), "3.12")
    for name, one in bundle.requirements_of(bundle.ROOTS.read_text().splitlines(), "3.12").items():
        assert str(one.specifier).startswith("==") or name in pins, name


def test_strange_python_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bundle.main(["--python", "py312"])
    assert "--python takes a version such as 3.12; found 'py312'" in capsys.readouterr().err
