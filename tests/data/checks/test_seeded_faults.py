"""Seeded faults, one of each kind, are found with file and id; sound oddities raise no alarm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fault_tables import INSTANCE, PANOPTIC, SEMANTIC
from PIL import Image
from seeds import HEIGHT, NUMBER, WIDTH, Seed, ids, instances, panoptic
from sound_oddities import ODDITIES

from mask2former.data.checks import Report, check_instances, check_panoptic
from mask2former.data.checks.dataset import check_labels
from mask2former.data.images.read import panoptic_png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images, panoptic pngs and labels of the same names."""
    for kind in ("images", "pngs", "labels"):
        (tmp_path / kind).mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (NUMBER + 1, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for n in range(1, NUMBER + 1):
        Image.fromarray(noise[n]).save(tmp_path / f"images/{n}.png")
        Image.fromarray(panoptic_png(ids())).save(tmp_path / f"pngs/{n}.png")
        Image.fromarray((ids() == 300).astype(np.uint8)).save(tmp_path / f"labels/{n}.png")
    return tmp_path


def check(folder: Path, task: str, seed: Seed, mark: bytes = b"") -> Report:
    content = instances() if task == "instance" else panoptic()
    file = folder / "a.json"
    file.write_bytes(mark + json.dumps(content).encode())
    changed = seed(folder, content)
    if changed != "written":
        file.write_bytes(mark + json.dumps(content).encode())
    if task == "instance":
        return check_instances(str(file), str(folder / "images"))
    if task == "panoptic":
        return check_panoptic(str(file), str(folder / "pngs"), str(folder / "images"))
    return check_labels(str(folder / "images"), str(folder / "labels"), ["ground", "square"], 255)


TABLES = {"instance": INSTANCE, "panoptic": PANOPTIC, "semantic": SEMANTIC}
SEEDED = [(task, kind) for task, table in TABLES.items() for kind in table]


@pytest.mark.parametrize(("task", "kind"), SEEDED)
def test_a_seeded_fault_is_found_with_file_and_id(folder: Path, task: str, kind: str) -> None:
    seed, where, said = TABLES[task][kind]
    report = check(folder, task, seed)
    assert any(where in file and text.startswith(said) for file, text, _ in report.faults) or any(
        where in file and said in text for file, text, _ in report.faults
    ), report.faults
    assert report.lines(report.faults)


def test_there_are_more_kinds_than_were_asked_for() -> None:
    assert len(SEEDED) >= 62


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
@pytest.mark.parametrize("kind", ODDITIES)
def test_sound_oddities_raise_no_alarm(folder: Path, kind: str, mark: bytes) -> None:
    task, seed = ODDITIES[kind]
    assert check(folder, task, seed, mark).faults == []


def test_thousands_of_equal_faults_are_one_line_with_a_guess(folder: Path) -> None:
    """Here 3000 missing panoptic pngs, which are in a folder below."""
    content = panoptic()
    content["images"] = [{"id": n, "file_name": "1.png", "height": HEIGHT, "width": WIDTH} for n in range(3000)]
    content["annotations"] = [{"image_id": n, "file_name": f"{n}.png", "segments_info": []} for n in range(3000)]
    (folder / "pngs/default").mkdir()
    for n in range(3000):
        (folder / f"pngs/{n}.png").unlink(missing_ok=True)
        (folder / f"pngs/default/{n}.png").touch()
    (folder / "a.json").write_text(json.dumps(content))
    report = check_panoptic(str(folder / "a.json"), str(folder / "pngs"), str(folder / "images"))
    (line,) = (line for line in report.lines(report.stopping) if "png is missing" in line)
    assert "(and 2,999 more of this kind)" in line and line.endswith(
        f"all 3,000 are found in {folder / 'pngs/default'}"
    )
