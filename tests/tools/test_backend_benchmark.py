"""The benchmark of engines: its ratios and table. Times are nobody's to assert."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from benchmarks import backends

from mask2former.structures import FactoredMasks, MaskPrediction


class Model:
    """A network whose logits are a constant, and that does a given amount of work."""

    def __init__(self, constant: float, work: int) -> None:
        self.constant, self.work = constant, work

    def predict_raw(self, inputs: list[dict[str, torch.Tensor]]) -> tuple[MaskPrediction, None]:
        for _ in range(self.work):
            torch.ones(200, 200) @ torch.ones(200, 200)
        embed = torch.full((1, 2, 3), self.constant)
        return MaskPrediction(embed, FactoredMasks(embed, torch.ones(1, 3, 1, 4, 4))), None


class Predictor:
    def __init__(self, constant: float, work: int) -> None:
        self.model, self.seen = Model(constant, work), set()

    def __call__(self, image) -> Predictor:
        self.seen.add(image.shape)
        return self

    def compute(self) -> None:
        self.model.predict_raw([])


def test_ratios_and_differences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    found = {"torch": Predictor(1.0, 40), "onnxruntime": Predictor(1.5, 1)}
    monkeypatch.setattr(backends, "contestants", lambda *_: (found, {"openvino": "not installed"}))
    file = tmp_path / "numbers.json"
    words = Namespace(model="output/mine", program=None, int8=None, opts=[], size=[(32, 48)], threads=1, repeats=3)
    backends.run(Namespace(**vars(words), json=file))
    report = json.loads(file.read_text())
    plain, other = report["rows"]
    assert plain["ratio"] == plain["whole_ratio"] == 1 and plain["difference"] == [0, 0]
    assert other["ratio"] == pytest.approx(plain["network"][0] / other["network"][0])
    assert other["whole_ratio"] == pytest.approx(plain["whole"][0] / other["whole"][0])
    assert other["difference"] == [0.5, 1.5]  # 3 channels of 0.5 each
    assert found["torch"].seen == {(32, 48, 3)} and other["runs"] == 3
    assert "absent: openvino: not installed" in capsys.readouterr().out
    assert report["words"] == [
        f"32x48: fastest in the network is onnxruntime, {other['ratio']:.2f} times PyTorch; in the whole onnxruntime, "
        f"{other['whole_ratio']:.2f} times."
    ]
