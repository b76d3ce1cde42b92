"""Results of a set do not depend on shards, engines or interruptions."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch

from mask2former import Predictor
from mask2former.bulk import find_sources, predict_set
from mask2former.bulk.engines import RayWorker


@pytest.fixture
def sources(images):
    return find_sources([str(images)])


def test_a_set_gives_what_the_predictor_gives(images, sources, settings, tmp_path):
    file = predict_set(sources, settings, tmp_path / "out", shard_size=3, progress=False)
    found = json.loads(file.read_text())
    assert [image["file_name"] for image in found["images"]] == [source.name for source in sources]
    assert [one["id"] for one in found["annotations"]] == list(range(1, len(found["annotations"]) + 1))
    predictor = Predictor(settings.model, threshold=settings.threshold, tasks=["instance"])
    for source in sources:
        expected = predictor(str(images / source.name)).to_coco("instance")["annotations"]
        mine = [one for one in found["annotations"] if one["image_id"] == source.image_id]
        for key in ("category_id", "score", "segmentation", "bbox", "area"):
            assert [one[key] for one in mine] == [one[key] for one in expected], key
    assert len(found["annotations"]) > 0 and found["skipped"] == []


def test_panoptic_segments_have_run_lengths(sources, settings, tmp_path):
    from pycocotools import mask as coco_masks

    file = predict_set(sources[:1], dataclasses.replace(settings, task="panoptic"), tmp_path, progress=False)
    found = json.loads(file.read_text())["annotations"]
    assert found and all(int(coco_masks.area(one["segmentation"])) == one["area"] for one in found)
    assert {one["isthing"] for one in found} <= {0, 1}


def test_a_run_goes_on_where_it_was_stopped(sources, settings, tmp_path):
    whole = predict_set(sources, settings, tmp_path / "whole", shard_size=2, progress=False).read_bytes()
    predict_set(sources, settings, tmp_path / "parts", shard_size=2, progress=False)
    shards = sorted((tmp_path / "parts" / "shards").iterdir())
    assert len(shards) == 4
    kept = {shard: shard.stat().st_mtime_ns for shard in shards[1:]}
    shards[0].unlink()
    assert predict_set(sources, settings, tmp_path / "parts", shard_size=2, progress=False).read_bytes() == whole
    assert {shard: shard.stat().st_mtime_ns for shard in kept} == kept
    other = dataclasses.replace(settings, threshold=0.5)
    with pytest.raises(ValueError, match=r"results of another run.*threshold: 0.01 before, 0.5 now"):
        predict_set(sources, other, tmp_path / "parts", shard_size=2, progress=False)


def test_a_model_that_was_trained_again_is_another(sources, settings, small_training, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(small_training, model)
    mine = dataclasses.replace(settings, model=str(model))
    predict_set(sources, mine, tmp_path / "out", progress=False)
    state = torch.load(model / "model_final.pth", weights_only=True)
    next(iter(state["model"].values())).add_(1)
    torch.save(state, model / "model_final.pth")
    with pytest.raises(ValueError, match="sha256_of_weights"):
        predict_set(sources, mine, tmp_path / "out", progress=False)


def test_bad_images_are_listed(images, sources, settings, tmp_path, caplog):
    (images / "1.png").write_bytes((images / "1.png").read_bytes()[:60])
    (images / "4.png").unlink()
    found = json.loads(predict_set(sources, settings, tmp_path / "out", shard_size=4, progress=False).read_text())
    assert [(one["id"], one["file_name"]) for one in found["skipped"]] == [(2, "1.png"), (5, "4.png")]
    assert "2 images are missing or damaged" in caplog.text
    assert "1.png" in found["skipped"][0]["reason"]
    assert [image["id"] for image in found["images"]] == [1, 3, 4, 6, 7]
    assert {one["image_id"] for one in found["annotations"]} <= {1, 3, 4, 6, 7}


@pytest.mark.parametrize("given", [{"engine": "spark"}, {"shard_size": 0}, {"workers": 0}])
def test_mistakes(sources, settings, tmp_path, given):
    with pytest.raises(ValueError, match="engine"):
        predict_set(sources, settings, tmp_path, **given)


def test_a_table_holds_the_same(sources, settings, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    found = json.loads(predict_set(sources, settings, tmp_path / "json", progress=False).read_text())
    folder = predict_set(sources, dataclasses.replace(settings, form="parquet"), tmp_path / "table", progress=False)
    (file,) = folder.iterdir()
    table = parquet.read_table(file)
    rows = table.to_pylist()
    assert [row["file_name"] for row in rows] == [image["file_name"] for image in found["images"]]
    segments = [segment for row in rows for segment in row["segments"]]
    for name in ("category_id", "score", "bbox", "area"):
        assert [segment[name] for segment in segments] == [one[name] for one in found["annotations"]]
    assert [one["counts"] for one in segments] == [one["segmentation"]["counts"] for one in found["annotations"]]
    assert json.loads(table.schema.metadata[b"categories"]) == found["categories"]


class DyingWorker(RayWorker):
    """Killed at its second shard, once."""

    def __call__(self, batch):
        mark = Path(self.worker.folder).parent / "killed"
        if int(batch["shard"][0]) == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)


@pytest.mark.slow  # starts a cluster
def test_workers_of_ray_give_the_same_bytes_though_one_is_killed(sources, settings, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    whole = predict_set(sources, settings, tmp_path / "whole", shard_size=2, progress=False).read_bytes()
    monkeypatch.setattr("mask2former.bulk.engines.RayWorker", DyingWorker)
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": paths}})
    try:
        file = predict_set(sources, settings, tmp_path / "ray", engine="ray", shard_size=2, workers=2, progress=False)
    finally:
        ray.shutdown()
    assert (tmp_path / "ray" / "killed").exists()
    assert file.read_bytes() == whole
