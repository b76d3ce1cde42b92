"""Curves of a training and comparisons of several, from their folders."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mask2former.dashboard.compare import differences, score_rows, short_names, write_comparison
from mask2former.dashboard.curves import charts_of, write_curves
from mask2former.dashboard.run_info import git_commit
from mask2former.dashboard.runs import Run, headlines
from mask2former.dashboard.series import LIMIT, Metrics, Series

TOOL = Path(__file__).parents[2] / "tools" / "dashboard.py"


def charts_in(page):
    return json.loads(re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, re.S)[1])


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100, 1000])
def test_thinning_keeps_the_mean_and_the_ends(count):
    series = Series(limit=8)
    values = np.random.default_rng(0).random(count)
    for i, value in enumerate(values):
        series.add(i, value)
        assert len(series.points()[0]) <= 9
    x, y = series.points()
    assert len(x) >= min(count, 4)
    assert list(x) == sorted(x)
    assert np.mean(y) == pytest.approx(values.mean(), abs=0.15)
    if count <= 8:
        assert y == pytest.approx(values)


def test_a_constant_stays_constant():
    series = Series(limit=10)
    for i in range(777):
        series.add(i, 2.5)
    assert set(series.points()[1]) == {2.5}


def test_going_back_to_a_checkpoint_replaces_what_came_after():
    series = Series(limit=None)
    for x, y in ((1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4), (3, 0.5), (4, 0.6)):
        series.add(x, y)
    assert series.points() == ([1, 2, 3, 4], [0.1, 0.2, 0.5, 0.6])


def test_metrics_are_read_on_while_they_grow(tmp_path):
    metrics = Metrics(tmp_path / "metrics.json")
    metrics.refresh()
    assert metrics.last == -1
    with open(metrics.file, "w") as file:
        file.write('{"iteration": 0, "lr": 1.0}\n{"iteration": 1, "lr"')
        file.flush()
        metrics.refresh()
        assert metrics.series["lr"].points() == ([1], [1.0])
        file.write(': 2.0, "a/AP": NaN}\n')
    metrics.refresh()
    metrics.refresh()
    assert metrics.series["lr"].points() == ([1, 2], [1.0, 2.0])
    assert "a/AP" not in metrics.series
    assert metrics.last == 1


def test_curves_count_iterations_that_are_done(tmp_path):
    """Detectron2 numbers them from 0; the row of the last evaluation has the number of all of them already."""
    rows = [{"iteration": 9, "lr": 1.0, "a/AP": 2.0}, {"iteration": 14, "a/AP": 3.0}, {"iteration": 19, "lr": 1.0}]
    metrics = Metrics(tmp_path / "metrics.json")
    metrics.file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"iteration": 20, "a/AP": 4.0}]))
    metrics.refresh()
    assert metrics.series["lr"].points()[0] == [10, 20] and metrics.last == 19
    assert metrics.series["a/AP"].points() == ([10, 15, 20], [2.0, 3.0, 4.0])


@pytest.mark.parametrize("line", ["{oh", "[3]"])
def test_a_damaged_file_is_named(tmp_path, line):
    (tmp_path / "metrics.json").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"metrics\.json, line 1"):
        Run(tmp_path)


def test_a_damaged_line_is_numbered_from_the_beginning_of_the_file(tmp_path):
    metrics = Metrics(tmp_path / "metrics.json")
    metrics.file.write_text('{"iteration": 0}\n{"iteration": 1}\n')
    metrics.refresh()
    with open(metrics.file, "a") as file:
        file.write('{"iteration": 2}\n{oh\n')
    with pytest.raises(ValueError, match=r"metrics\.json, line 4"):
        metrics.refresh()


def test_the_commit_is_that_of_the_repository_which_tracks_the_file(tmp_path):
    assert git_commit(tmp_path / "installed.py") is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *arguments], check=True)
    file = tmp_path / "installed.py"
    file.write_text("")
    assert git_commit(file) is None  # in their repository, but not of it
    subprocess.run([*git, "add", file.name], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "ours"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert git_commit(file) == head[:12]
    file.write_text("changed")
    assert git_commit(file) == f"{head[:12]}, with changes"


def test_long_trainings_are_thinned(run_folder):
    run = Run(run_folder("long", lines=3000))
    charts = charts_of(run.metrics, run.batch_size)
    assert all(
        len(line["x"]) <= LIMIT + 1 for name, c in charts.items() if "scores" not in name for line in c["series"]
    )
    assert run.metrics.last == 59999


def test_charts(run_folder):
    charts = charts_of(Run(run_folder("run")).metrics, batch_size=4)
    names = [
        "loss",
        "parts",
        "layers-loss_ce",
        "layers-loss_mask",
        "layers-loss_dice",
        "scores-0",
        "lr",
        "speed",
        "memory",
    ]
    assert list(charts) == names
    assert [line["name"] for line in charts["layers-loss_mask"]["series"]] == ["layer 0", "layer 1", "last layer"]
    assert charts["speed"]["series"][0]["y"][0] == 8
    assert [line["name"] for line in charts["scores-0"]["series"]] == ["PQ"]


def test_curves_reload_only_while_the_training_runs(run_folder):
    folder = run_folder("run")
    metrics = Run(folder).metrics
    running = write_curves(folder / "a.html", metrics, title="<i>", max_iter=4000, refresh=15).read_text()
    ended = write_curves(folder / "b.html", metrics, title="<i>", max_iter=1200).read_text()
    assert 'data-refresh="15"' in running
    assert "left" in running
    assert 'data-refresh=""' in ended
    assert "iteration 1\u202f200 of 1\u202f200" in ended
    assert "<i>&lt;" not in ended
    assert "&lt;i&gt;" in ended
    assert len(charts_in(ended)) == 8


def test_an_empty_training_has_a_page(tmp_path):
    page = write_curves(tmp_path / "curves.html", Metrics(tmp_path / "metrics.json"), title="new", refresh=15)
    assert "Nothing has been written yet" in page.read_text()


def test_comparison(run_folder, tmp_path):
    runs = [Run(run_folder("a", score=40, BASE_LR=0.1)), Run(run_folder("b", score=60, BASE_LR=0.2, EXTRA="<x>"))]
    text = write_comparison(tmp_path / "compare.html", runs).read_text()
    assert re.search(r'<td>40\.00</td><td class="best">60\.00', text)
    assert "SOLVER.BASE_LR" in text
    assert "&lt;x&gt;" in text
    assert "OUTPUT_DIR" not in re.sub(r"<script.*?</script>", "", text, flags=re.S)
    loss = next(chart for chart in charts_in(text) if chart["title"] == "Loss")
    assert [line["name"] for line in loss["series"]] == ["a", "b"]


def test_best_scores():
    rows = score_rows([{"PQ": 1.0, "AP": 2.0}, {"PQ": 3.0, "AP": 2.0, "mIoU": float("nan")}])
    assert rows == [
        ("PQ", [(1.0, False), (3.0, True)]),
        ("AP", [(2.0, False), (2.0, False)]),
        ("mIoU", [(None, False), (None, False)]),
    ]


def test_differences_of_configurations():
    assert differences([{"a": 1, "b": [1]}, {"a": 1, "b": [2], "c": "x"}]) == [
        ("b", ["[1]", "[2]"]),
        ("c", ["\u2013", "x"]),
    ]


def test_names_as_short_as_tell_apart(tmp_path):
    folders = [tmp_path / "x" / "run", tmp_path / "y" / "run"]
    assert short_names(folders) == ["x/run", "y/run"]
    assert short_names([folders[0], folders[0]]) == ["run (1)", "run (2)"]


def test_scores_of_several_data_sets_and_of_an_evaluation_alone(tmp_path):
    assert headlines({"coco/segm": {"AP": 3.0}, "panoptic_seg": {"PQ": 4.0}}) == {"PQ": 4.0, "coco: mask AP": 3.0}
    (tmp_path / "scores_other.json").write_text(json.dumps({"sem_seg": {"mIoU": 5.0}}))
    assert Run(tmp_path).headlines() == {"other: mIoU": 5.0}


def test_the_tool(run_folder, tmp_path):
    def call(*arguments):
        return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True)

    a, b = run_folder("a"), run_folder("b")
    assert call(a).returncode == 0
    assert (a / "curves.html").exists()
    assert call(a, b, "--output", tmp_path / "pages" / "two.html").returncode == 0
    assert (tmp_path / "pages" / "two.html").exists()
    failed = call(tmp_path)
    assert failed.returncode == 1
    assert "error:" in failed.stderr
    assert "not an output folder" in failed.stderr
    assert "Traceback" not in failed.stderr
