"""Scoring in the background: the same order and results, errors that surface, a bounded queue."""

import threading

import pytest
import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances

from mask2former.evaluation.async_evaluator import AsyncEvaluator, on_cpu


class Recorder(DatasetEvaluator):
    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()

    def reset(self):
        self.seen, self.threads = [], set()

    def process(self, inputs, outputs):
        assert self.gate.wait(10)
        if outputs[0]["x"] == "bad":
            raise ValueError("image 3 is broken")
        self.seen += [(one["image_id"], output["x"]) for one, output in zip(inputs, outputs, strict=True)]
        self.threads.add(threading.get_ident())

    def evaluate(self):
        return {"seen": list(self.seen)}


def batch(number, value=None):
    return [{"image_id": number, "image": torch.zeros(1)}], [{"x": number if value is None else value}]


def test_order_and_results():
    recorder = Recorder()
    overlapped = AsyncEvaluator(recorder, limit=3)
    for _ in range(2):  # it can be used again
        overlapped.reset()
        for number in range(50):
            overlapped.process(*batch(number))
        assert overlapped.evaluate() == {"seen": [(n, n) for n in range(50)]}
        assert len(recorder.threads) == 1 and threading.get_ident() not in recorder.threads


@pytest.mark.parametrize("further", [0, 20])
def test_an_error_surfaces(further):
    overlapped = AsyncEvaluator(Recorder(), limit=2)
    overlapped.reset()
    overlapped.process(*batch(0))
    overlapped.process(*batch(3, "bad"))
    with pytest.raises(ValueError, match="image 3 is broken"):
        for number in range(further):
            overlapped.process(*batch(number))
        overlapped.evaluate()
    with pytest.raises(RuntimeError, match="reset"):
        overlapped.process(*batch(0))


def test_no_more_wait_than_the_limit():
    recorder = Recorder()
    overlapped = AsyncEvaluator(recorder, limit=2)
    overlapped.reset()
    recorder.gate.clear()
    overlapped.process(*batch(0))
    overlapped.process(*batch(1))
    third = threading.Thread(target=overlapped.process, args=batch(2))
    third.start()
    third.join(0.2)
    assert third.is_alive() and len(overlapped._waiting) <= 2  # it waits for the first
    recorder.gate.set()
    third.join(10)
    assert not third.is_alive()
    assert overlapped.evaluate() == {"seen": [(0, 0), (1, 1), (2, 2)]}


def test_nothing_at_all():
    overlapped = AsyncEvaluator(Recorder())
    overlapped.reset()
    assert overlapped.evaluate() == {"seen": []}
    with pytest.raises(ValueError, match="limit is 0"):
        AsyncEvaluator(Recorder(), limit=0)


def test_outputs_are_copied_to_the_cpu():
    instances = Instances((2, 3), scores=torch.ones(1, device="meta"))
    with pytest.raises(NotImplementedError):  # a meta tensor has nothing to copy: so it was tried
        on_cpu({"a": [instances]})
    value = {"a": (torch.ones(2), [{"id": 1}]), "b": None}
    assert on_cpu(value)["a"][1] == [{"id": 1}] and on_cpu(value)["b"] is None
