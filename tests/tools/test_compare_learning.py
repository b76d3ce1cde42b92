"""tools/compare_learning.py: its verdicts, and a run of one iteration that is then taken up again."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from mask2former.data import register_all

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))
SPEC = importlib.util.spec_from_file_location("compare_learning", TOOLS / "compare_learning.py")
assert SPEC and SPEC.loader
compare_learning = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(compare_learning)


def scores(ours: list[float], theirs: list[float]) -> dict[str, dict[str, dict[str, float]]]:
    pairs = zip(ours, theirs, strict=True)
    return {str(n): {"ours": {"PQ": a}, "Hugging Face": {"PQ": b}} for n, (a, b) in enumerate(pairs)}


def test_verdict() -> None:
    """Spreads 1 and 2; means 11 and 12.5, then 11 and 14."""
    near = compare_learning.table(scores([10, 11, 12], [10.5, 12.5, 14.5]))
    assert "11.00 ± 1.00" in near and "12.50 ± 2.00" in near and "-1.50" in near and "PQ: within" in near
    assert "PQ: OUTSIDE" in compare_learning.table(scores([10, 11, 12], [12, 14, 16]))


@pytest.mark.slow
def test_a_run(datasets: Path, tmp_path: Path, small_network: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    register_all(str(datasets))
    output, config = tmp_path / "out", TOOLS.parent / "configs" / "quickstart" / "panoptic.yaml"
    command = ["--config-file", str(config), "--seeds", "5", "--iterations", "1", "--output", str(output)]
    compare_learning.main([*command, *small_network])
    kept = json.loads((output / "scores.json").read_text())
    assert set(kept["scores"]["5"]) == {"ours", "Hugging Face"}
    kept["scores"]["5"]["ours"]["PQ"] = 77.0
    (output / "scores.json").write_text(json.dumps(kept))
    compare_learning.main([*command, *small_network])  # nothing is trained again
    assert "77.00 ± 0.00" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="name another --output"):
        compare_learning.main([*command, *small_network, "SOLVER.BASE_LR", "0.1"])
