"""The benchmark: its arithmetic, and that all who take part compute the same. Times are nobody's to assert."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

from benchmarks import models, operator, precision  # noqa: E402
from benchmarks.cases import LOCATIONS, Case, parse_size  # noqa: E402
from benchmarks.contestants import CONTESTANTS, load, locations, weights  # noqa: E402
from benchmarks.machine import Limits, measure_limits  # noqa: E402
from benchmarks.products import Recorder, multiply_adds, replay  # noqa: E402
from benchmarks.table import draw, scaling, tables  # noqa: E402

from mask2former.measure import memory  # noqa: E402
from mask2former.measure.timing import Patience, Seconds, Statistics, by_processor_time, take_turns  # noqa: E402

CPU = torch.device("cpu")


def test_statistics() -> None:
    assert Statistics.of([3.0, 1.0, 2.0, 5.0, 4.0]) == Statistics(3.0, 2.0, 4.0, 1.0, 5)
    assert Statistics.of([1.0, 2.0]) == Statistics(1.5, 1.25, 1.75, 1.0, 2)
    assert Statistics.of([7.0]) == Statistics(7.0, 7.0, 7.0, 7.0, 1)
    with pytest.raises(ValueError, match="no times were measured"):
        Statistics.of([])


def test_a_function_that_measures_itself_is_believed() -> None:
    assert by_processor_time(lambda: Seconds(7.0))() == 7.0
    assert isinstance(by_processor_time(lambda: None)(), Seconds)


def test_functions_take_turns() -> None:
    log: list[str] = []
    threads = torch.get_num_threads()

    def function(name: str) -> None:
        log.append(f"{name}{torch.get_num_threads()}")
        end = torch.ones(3_000_000)
        for _ in range(12):  # longer than what would be repeated
            end = end.cos()

    functions = {name: lambda name=name: function(name) for name in "ab"}
    times = take_turns(functions, Patience(rounds=2), CPU, (1, 2))
    assert {key: time.runs for key, time in times.items()} == {(n, c): 2 for n in "ab" for c in (1, 2)}
    order = [name for name, before in zip(log, ["", *log], strict=False) if name != before]
    assert order[-8:] == ["a1", "b1", "a2", "b2"] * 2
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("text", "numbers"), [("800x1067", (1, 800, 1067)), ("2x1024x1024", (2, 1024, 1024)), ("3x1x2", (3, 1, 2))]
)
def test_size(text: str, numbers: tuple[int, int, int]) -> None:
    assert parse_size(text) == numbers


@pytest.mark.parametrize("text", ["", "800", "0x5", "1x2x3x4", "axb", "2x3x"])
def test_bad_size_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="a size is HxW or BxHxW"):
        parse_size(text)


def test_levels_of_the_encoder() -> None:
    assert Case("800x1067", "float32", "near").shapes == [(25, 34), (50, 67), (100, 134)]
    assert Case("2x1024x1024", "float32", "near").shapes == [(32, 32), (64, 64), (128, 128)]


def test_where_samples_lie() -> None:
    near = Case("256x320", "float32", "near").inputs(CPU)
    assert near.offsets.mean((0, 1, 3, 4))[0].tolist() == pytest.approx([2.5, 0], abs=0.1)  # head 0 looks right
    assert near.offsets.mean((0, 1, 2, 3, 4)).tolist() == pytest.approx([0, 0], abs=0.1)
    assert near.offsets[:, :, 0, :, 3, 0].std() == pytest.approx(1, abs=0.1)
    places = locations(Case("256x320", "float32", "anywhere").inputs(CPU))
    assert 0 <= places.min() < 0.01 and 0.99 < places.max() <= 1.0
    assert weights(near).sum((-2, -1)).sub(1).abs().max() < 1e-5


def test_least_work_by_hand() -> None:
    # Levels 1x1, 1x1, 1x2: four pixels, each asks 8 heads x 3 levels x 4 points.
    case = Case("8x16", "bfloat16", "near")
    samples = 4 * 8 * 3 * 4
    assert case.work(training=False) == ((4 * 256 + 3 * samples + 4 * 256) * 2 + 4 * 8, samples * 4 * 32)
    assert case.work(training=True) == ((4 * 256 + 3 * samples + 4 * 256) * 4 + 4 * 8, samples * 4 * 32 * 3)


def test_floor_is_the_slower_of_both_limits() -> None:
    limits = Limits(bandwidth=100.0, multiply_adds={"float32": 10.0, "bfloat16": 1000.0})
    assert limits.floor(200, 50, "float32") == 5.0
    assert limits.floor(200, 50, "bfloat16") == 2.0


def test_limits_are_positive() -> None:
    (limits,) = measure_limits(CPU, ["float32"], copy_bytes=2**20, matrix=64).values()
    assert limits.bandwidth > 0 and limits.multiply_adds["float32"] > 0


@pytest.mark.parametrize("name", CONTESTANTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("where", LOCATIONS)
def test_all_compute_the_same(name: str, dtype: str, where: str) -> None:
    present, absent = load([name])
    if name in absent:
        pytest.skip(absent[name])
    # Hugging Face's and mmcv's functions round locations too, by up to 1/256 of the image.
    tolerance = 1e-5 if dtype == "float32" else 0.5 if name in ("huggingface", "mmcv") else 0.01
    assert operator.compare(present[name], Case("2x64x96", dtype, where), CPU) < tolerance


def test_comparison_sees_a_difference() -> None:
    plain = load(["plain"])[0]["plain"]
    assert operator.compare(lambda inputs: 1.01 * plain(inputs), Case("64x96", "float32", "near"), CPU) > 0.005


@pytest.mark.skipif(not memory.is_measurable(CPU), reason="needs Linux")
def test_peak_counts_what_is_freed_again() -> None:
    assert abs(memory.apart(_peak_of_two_arrays) - 2**27) < 2**23


def _peak_of_two_arrays() -> int:
    """Of 64 MiB each, of which next to nothing is kept."""

    def function() -> torch.Tensor:
        return (torch.ones(2**24) * 2)[:1].clone()

    function()
    return memory.peak_of(function, CPU)


@pytest.mark.skipif(not memory.is_measurable(CPU), reason="needs Linux")
def test_layer_with_the_plain_operator_takes_more_memory() -> None:
    from mask2former.ops import library

    if not library.is_loaded("cpu"):
        pytest.skip("the operator is not compiled")
    peaks = operator._peaks(Case("400x400", "float32", "near"), list(operator.LAYERS), "training", CPU)
    assert 2**20 < peaks["layer"] < peaks["layer_plain"]


def test_command(tmp_path: Path) -> None:
    options = ["--sizes", "32x48", "--dtypes", "float32", "--locations", "near", "--repeats", "3", "--copy-mib", "1"]
    files = ["--json", str(tmp_path / "new" / "op.json"), "--chart", str(tmp_path / "op.png")]
    done = subprocess.run(
        [sys.executable, str(TOOLS / "benchmark.py"), "op", "--no-memory", *options, *files],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TOOLS.parent)},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "new" / "op.json").read_text())
    present, absent = load(list(CONTESTANTS))
    assert report["absent"] == absent and report["failed"] == {}
    assert {row["contestant"] for row in report["rows"]} == {*present, *operator.LAYERS}
    assert {(row["mode"], row["threads"]) for row in report["rows"]} == {(mode, 1) for mode in operator.MODES}
    assert all(row["median"] > 0 and row["runs"] == 3 for row in report["rows"])
    assert all(row["ratio"] == 1 for row in report["rows"] if row["contestant"] in ("plain", "layer_plain"))
    assert (tmp_path / "op.png").read_bytes().startswith(b"\x89PNG")
    for words in ("32x48, float32, samples near, 1 CPU thread", "plain PyTorch", "of limit", *absent):
        assert words in done.stdout
    assert str(tmp_path / "op.png") in done.stdout


def test_table_holds_the_numbers(tmp_path: Path) -> None:
    case = Case("64x64", "float32", "near")
    rows = [
        operator.Row(
            *(case, name, CONTESTANTS[name].label, threads, mode, 0.02 / threads, 0.018 / threads, 0.024 / threads, 5),
            *(0.001, ratio, 3 * 2**20, 1e-7),
        )
        for name, ratio in (("classic", 4.25), ("plain", 1.0))
        for threads in (1, 2)
        for mode in operator.MODES
    ]
    text = tables(rows)
    for words in ("ours, classic", "20 ± 3", "4.25", "5.0%", "10.0%", "3.0", "1e-07", "1 CPU thread\n"):
        assert words in text
    assert "2.00" in scaling(rows)
    draw(rows, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 10_000


def test_help_teaches() -> None:
    done = subprocess.run([sys.executable, str(TOOLS / "benchmark.py"), "op", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for words in (*CONTESTANTS, "of limit", "Examples", "--threads"):
        assert words in done.stdout


def test_products_by_hand() -> None:
    recorder = Recorder()
    with torch.no_grad(), recorder:
        torch.nn.functional.conv2d(torch.ones(2, 3, 8, 10), torch.ones(4, 3, 3, 3), stride=2, padding=1)
        torch.nn.functional.linear(torch.ones(5, 7), torch.ones(6, 7), torch.ones(6))
        torch.nn.functional.scaled_dot_product_attention(*(torch.ones(1, 2, n, 4) for n in (3, 5, 5)))
    convolution, linear, attention = 2 * 4 * 5 * 4 * 27, 5 * 7 * 6, 2 * 2 * 3 * 4 * 5
    assert multiply_adds(recorder.products) == convolution + linear + attention
    replay(recorder.products, CPU)()


def test_both_models_compute_the_same() -> None:
    """Their logits, and the number of queries that hold an object."""
    pytest.importorskip("transformers")
    setting = models.Setting("r50", size=(64, 96), objects=7)
    ours = models.our_model(setting)
    theirs = models.their_model(setting, ours).eval()
    image = setting.images()[0]
    with torch.no_grad():
        logits, masks = ours.predict([{"image": image}])[0]
        expected = theirs(pixel_values=((image - ours.pixel_mean) / ours.pixel_std)[None])
    assert int((logits.argmax(-1) < 133).sum()) == 7
    scale = logits.abs().max()
    torch.testing.assert_close(logits / scale, expected.class_queries_logits[0] / scale, atol=1e-4, rtol=0)
    found = masks.masks.logits(0)[:, 0]
    scale = found.abs().max()
    torch.testing.assert_close(found / scale, expected.masks_queries_logits[0] / scale, atol=1e-4, rtol=0)


def test_agreement_by_hand() -> None:
    one = torch.zeros(4, 8, dtype=torch.int32)
    one[:, :4], one[:, 4:] = 1, 2
    two = torch.zeros(4, 8, dtype=torch.int32)
    two[:, :5], two[:, 5:] = 7, 8
    kinds = [{"category_id": 3}, {"category_id": 4}]
    first = (one, [{"id": 1, **kinds[0]}, {"id": 2, **kinds[1]}])
    assert precision.compare(first, (two, [{"id": 7, **kinds[0]}, {"id": 8, **kinds[1]}])) == ([0.8, 0.75], 4)
    assert precision.compare(first, (two, [{"id": 7, **kinds[1]}, {"id": 8, **kinds[0]}])) == ([], 4)


def test_infer_command(tmp_path: Path) -> None:
    other = f"{sys.executable} -c 'print({{height}} / 100)'"
    options = ["--models", "configs/quickstart/panoptic.yaml", "--size", "64x96", "--batch", "2", "--mixed"]
    files = ["--json", str(tmp_path / "i.json"), "--chart", str(tmp_path / "i.png")]
    done = subprocess.run(
        [
            sys.executable,
            "tools/benchmark.py",
            "infer",
            *options,
            "--no-memory",
            "--processor",
            "--repeats",
            "1",
            *files,
            "--dtypes",
            "bfloat16",
            "--other",
            f"mine={other}",
        ],
        capture_output=True,
        text=True,
        cwd=TOOLS.parent,
        env={**os.environ, "PYTHONPATH": str(TOOLS.parent)},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "i.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert set(rows) == {"ours", "mine", "floor", "floor, default layout"} and rows["mine"]["median"] == 0.64
    assert rows["floor"]["of_floor"] == 1 and rows["ours"]["of_floor"] > 0
    assert set(rows["ours"]["parts"]) == {"backbone", "pixel decoder", "transformer decoder", "post-processing"}
    assert report["table"] in done.stdout and any("absent: huggingface" in line for line in report["words"])
    assert "absent: huggingface" in done.stdout and "panoptic quality against float32" in done.stdout
    assert (tmp_path / "i.png").read_bytes().startswith(b"\x89PNG")
