"""Files of a partial evaluation: two runs in one folder, damage, processes, and the loader of what remains."""

from __future__ import annotations

import itertools
import json
import multiprocessing

import pytest
import torch
import torch.distributed

import mask2former  # noqa: F401  (spawned processes have no conftest.py that mends Detectron2 first)

# isort: split
from detectron2.data.samplers import InferenceSampler
from detectron2.evaluation import DatasetEvaluator
from forked import run_forked
from torch.utils.data import DataLoader

from mask2former.evaluation.partial import PartialEvaluator


class Listing(DatasetEvaluator):
    """Its score is the list of the images that it has counted."""

    def __init__(self):
        self.images = []

    def reset(self):
        self.images = []

    def process(self, inputs, outputs):
        self.images = self.images + list(inputs)

    def evaluate(self):
        return sorted(self.images)

    def counts(self):
        return {"images": self.images}

    def add_counts(self, counts):
        self.images = self.images + counts["images"]


class Run:
    """An evaluation of images 0 to 5, as far as asked."""

    def __init__(self, folder, fingerprint="a" * 64, resume=False, period=2):
        scorer = Listing()
        self.partial = PartialEvaluator(scorer, [scorer], folder, fingerprint=fingerprint, period=period, resume=resume)
        self.images = iter(self.partial.remaining(DataLoader(list(range(6)), batch_size=1, collate_fn=list)))
        self.partial.reset()

    def go_on(self, images):
        for batch in itertools.islice(self.images, images):
            self.partial.process(batch, batch)
        return self

    def finish(self):
        return self.go_on(None).partial.evaluate()


ALL = [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("fingerprint", ["a" * 64, "b" * 64], ids=["same", "other"])
@pytest.mark.parametrize("resume", [False, True])
def test_two_evaluations_in_one_folder_leave_each_other_alone(tmp_path, fingerprint, resume):
    first = Run(tmp_path / "set").go_on(4)
    second = Run(tmp_path / "set", fingerprint, resume)
    assert second.finish() == ALL
    assert first.finish() == ALL
    assert not list(tmp_path.iterdir())


def test_a_run_without_resume_leaves_files_of_before_to_later_ones(tmp_path):
    Run(tmp_path / "set").go_on(4)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.json")}
    assert len(before) == 2
    assert Run(tmp_path / "set").finish() == ALL
    assert Run(tmp_path / "set", "b" * 64, resume=True).finish() == ALL
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.json")} == before
    assert Run(tmp_path / "set", resume=True).finish() == ALL
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("periods", [(2, 3), (3, 2), (4, 1)])
def test_images_that_two_stopped_runs_have_evaluated_count_once(tmp_path, periods):
    for period in periods:
        Run(tmp_path / "set", period=period).go_on(5)
    third = Run(tmp_path / "set", resume=True)
    assert len(list(third.images)) in (1, 2)  # 5 or 4 images were kept
    assert Run(tmp_path / "set", resume=True).finish() == ALL
    assert not list(tmp_path.iterdir())


def one_of_two(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for resume, images in ((False, 2 - rank), (True, None)):  # the first run ends with images 0, 1 and 3
        scorer = Listing()
        partial = PartialEvaluator(scorer, [scorer], folder / "set", fingerprint="a" * 64, period=1, resume=resume)
        sampler = InferenceSampler(len(ALL))
        loader = partial.remaining(DataLoader(ALL, batch_size=1, sampler=sampler, collate_fn=list))
        partial.reset()
        evaluated = list(itertools.islice(loader, images))
        for batch in evaluated:
            partial.process(batch, batch)
        torch.distributed.barrier()
    scores = {"evaluated": evaluated, "share": partial.share, "scored": partial.evaluate()}
    (folder / f"{rank}.json").write_text(json.dumps(scores))
    torch.distributed.barrier()  # gloo aborts now and then where one process leaves early
    torch.distributed.destroy_process_group()


def test_two_processes_go_on_and_count_each_image_once(tmp_path):
    run_forked(one_of_two, (tmp_path,))
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["evaluated"] + second["evaluated"] == [[2], [4], [5]]
    assert sorted(first["scored"] + second["scored"]) == ALL
    assert first["share"].startswith("5 of 5") and second["share"].startswith("4 of 4")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"fingerprint": "%s"}' % (b"a" * 64)])
@pytest.mark.parametrize("resume", [False, True])
def test_a_damaged_file_is_named_and_left_out(tmp_path, text, resume, caplog):
    Run(tmp_path / "set").go_on(4)
    damaged, whole = sorted(tmp_path.rglob("*.json"))
    damaged.write_bytes(text)
    second = Run(tmp_path / "set", resume=resume)
    named = [record for record in caplog.records if str(damaged) in record.getMessage()]
    assert len(named) == resume
    assert second.finish() == ALL
    assert damaged.read_bytes() == text and whole.exists() == (not resume)


def test_a_folder_that_cannot_be_written_costs_nothing_but_what_is_kept(tmp_path, caplog):
    (tmp_path / "set").write_text("a file in the way")
    run = Run(tmp_path / "set").go_on(4)
    assert "evaluated again" in caplog.text and len(caplog.records) == 1
    assert run.partial.share == "0 of 6 images (0 %)"
    (tmp_path / "set").unlink()
    run.go_on(1).partial.flush()
    assert run.partial.share == "5 of 6 images (83 %)"
    assert len(list(tmp_path.rglob("*.json"))) == 3
    (content,) = (file for file in tmp_path.rglob("*.json") if "00000004" in file.name)
    assert json.loads(content.read_text())["counts"] == [{"images": [4]}]
    assert run.finish() == ALL

    (tmp_path / "set").write_text("a file in the way")
    assert Run(tmp_path / "set").finish() == ALL


def set_up_worker(number):
    """Do nothing: a loader has to keep it."""


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_of_the_remaining_images_keeps_its_settings(tmp_path, workers):
    given = {
        "batch_size": 2,
        "num_workers": workers,
        "collate_fn": list,
        "pin_memory": True,
        "worker_init_fn": set_up_worker,
        "generator": torch.Generator(),
    }
    if workers:
        context = multiprocessing.get_context("spawn")
        given |= {"multiprocessing_context": context, "prefetch_factor": 7, "persistent_workers": True, "timeout": 9.0}
        given["in_order"] = False
    scorer = Listing()
    partial = PartialEvaluator(scorer, [scorer], tmp_path, fingerprint="a" * 64, period=2, resume=False)
    loader = partial.remaining(DataLoader(ALL, **given))
    assert {key: getattr(loader, key) for key in given} == given
