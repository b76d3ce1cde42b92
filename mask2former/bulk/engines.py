"""Predict on a set of images: plan its shards, have workers do those that are missing, and join the files."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mask2former.bulk.shard import FORMS, Done, Settings, ShardWorker, shard_file
from mask2former.bulk.sources import Source
from mask2former.files import whole_file, write_text
from mask2former.predictor.digests import model_digests

ENGINES = ("local", "ray")
logger = logging.getLogger(__name__)


def predict_set(
    sources: Sequence[Source],
    settings: Settings,
    folder: str | Path,
    *,
    engine: str = "local",
    shard_size: int = 256,
    workers: int = 1,
    gpus: float = 0,
    cpus: float = 1,
    address: str | None = None,
    progress: bool = True,
) -> Path:
    """Predict on all images, and return the file (json) or folder (parquet) with the results.

    A run that was stopped, whatever stopped it, goes on when it is started again: a shard's file is whole or not there,
    and only missing ones are made. The results do not depend on the engine nor the number of workers.

    Args:
        sources: the images.
        settings: what is made of them.
        folder: gets ``plan.json``, ``shards/`` and ``results.json``. Workers on several machines have to share it.
        engine: "local": in this process; "ray": by workers of Ray (extra ``ray``).
        shard_size: images of a shard: what is lost at most when a worker is killed.
        workers: Ray's workers.
        gpus, cpus: of each worker; a fraction lets workers share a GPU.
        address: of a Ray cluster; None: one is started on this machine.
        progress: show a bar, with the time left.

    Raises:
        ValueError: an unknown engine or form; ``folder`` has shards of other images or settings; or no image at all.
        ModuleNotFoundError: Ray or pyarrow is not installed.
    """
    if engine not in ENGINES or settings.form not in FORMS or shard_size < 1 or workers < 1:
        raise ValueError(
            f"engine {engine}, form {settings.form}, shard_size {shard_size}, workers {workers}: the first is one of "
            f"{ENGINES}, the second of {FORMS}, the others are at least 1."
        )
    if not sources:
        raise ValueError("There are no images to predict on.")
    for module, needed in (("ray", engine == "ray"), ("pyarrow", settings.form == "parquet")):
        if needed and importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"This needs {module}: pip install 'mask2former[ray]'.")
    folder = Path(folder)
    shards = folder / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    _write_plan(folder / "plan.json", sources, settings, shard_size)
    parts = {n: sources[start : start + shard_size] for n, start in enumerate(range(0, len(sources), shard_size))}
    there = {file.name for file in shards.iterdir()}  # one listing, where a shared folder answers a question in ms
    missing = {n: part for n, part in parts.items() if shard_file(shards, n, settings.form).name not in there}
    if missing:
        done = (
            _in_this_process(settings, shards, missing)
            if engine == "local"
            else _by_ray(settings, shards, missing, workers=workers, gpus=gpus, cpus=cpus, address=address)
        )
        skipped = 0
        begun = len(sources) - sum(map(len, missing.values()))
        with tqdm(total=len(sources), initial=begun, unit="image", disable=None if progress else True) as bar:
            for one in done:
                bar.update(one.images)
                skipped += one.skipped
        if skipped:
            logger.warning(
                "%d images are missing or damaged; `skipped` in the results lists them, with the reasons.", skipped
            )
    if settings.form == "parquet":
        return shards
    _join([shard_file(shards, number, settings.form) for number in parts], folder / "results.json")
    return folder / "results.json"


def _write_plan(file: Path, sources: Sequence[Source], settings: Settings, shard_size: int) -> None:
    """Note what the shards are of, or check that it is what they are of."""
    digest = hashlib.sha256(json.dumps(sources).encode()).hexdigest()
    what = {**asdict(settings), "opts": list(settings.opts), "shard_size": shard_size, "images": len(sources)}
    what |= {"sha256_of_images": digest, **model_digests(settings.model, settings.opts)}
    if not file.exists():
        write_text(file, json.dumps(what, indent=1))
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    other = [f"{key}: {before.get(key)} before, {value} now" for key, value in what.items() if before.get(key) != value]
    if other:
        raise ValueError(
            f"{file.parent} has results of another run, with which these cannot be joined ({'; '.join(other)}). Give "
            "another folder, or remove that one."
        )


def _in_this_process(settings: Settings, shards: Path, missing: dict[int, Sequence[Source]]) -> Iterator[Done]:
    worker = ShardWorker(settings, shards)
    for number, part in missing.items():
        yield worker(number, part)


class RayWorker:
    """Do the shards that Ray Data hands over: a batch is one shard, whose images are JSON."""

    def __init__(self, settings: Settings, shards: str) -> None:
        self.worker = ShardWorker(settings, shards)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        sources = [Source(*one) for one in json.loads(batch["sources"][0])]
        done = self.worker(int(batch["shard"][0]), sources)
        return {name: [value] for name, value in done._asdict().items()}


def _by_ray(
    settings: Settings,
    shards: Path,
    missing: dict[int, Sequence[Source]],
    *,
    workers: int,
    gpus: float,
    cpus: float,
    address: str | None,
) -> Iterator[Done]:
    """Have a pool of Ray's actors do the shards. Ray starts an actor again that was killed, and repeats its shard."""
    import ray
    import ray.data

    if not ray.is_initialized():
        ray.init(address=address, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [{"shard": number, "sources": json.dumps(part)} for number, part in missing.items()]
    found = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        RayWorker,
        fn_constructor_args=(settings, str(shards.resolve())),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
        num_gpus=gpus or None,
        num_cpus=cpus,
    )
    for row in found.iter_rows():
        yield Done(**row)


def _join(files: Sequence[Path], result: Path) -> None:
    """Write the COCO file of all shards, holding one of them at a time; annotations are numbered from 1."""
    categories: list[Any] = []
    with whole_file(result, "w") as out:
        count = 0
        for key in ("images", "skipped", "annotations"):
            out.write("{" if key == "images" else ", ")
            out.write(f'"{key}": [')
            separator = ""
            for file in files:
                content = json.loads(file.read_text(encoding="utf-8"))
                categories = categories or content["categories"]
                for entry in content[key]:
                    if key == "annotations":
                        count += 1
                        entry = {**entry, "id": count}
                    out.write(separator + json.dumps(entry))
                    separator = ",\n"
            out.write("]")
        out.write(f', "categories": {json.dumps(categories)}}}\n')
