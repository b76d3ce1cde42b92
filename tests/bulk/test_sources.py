"""Images are found in folders, globs, jsons, tar files and stores of fsspec."""

from __future__ import annotations

import json
import tarfile

import fsspec
import pytest

from mask2former.bulk.sources import find_sources, read_bytes

NAMES = ["0.png", "1.png", "2.png", "3.png", "4.png", "more/0.jpg", "more/1.jpg"]


def names(sources):
    return [source.name for source in sources]


def test_folders_and_globs(images):
    (images / "._0.png").write_bytes(b"")  # as archives of macOS have them
    found = find_sources([str(images)])
    assert names(found) == NAMES and [source.image_id for source in found] == list(range(1, 8))
    assert [read_bytes(source) for source in found] == [(images / name).read_bytes() for name in NAMES]
    assert names(find_sources([f"{images}/*.png"])) == NAMES[:5]
    assert names(find_sources([f"{images}/**/*.jpg"])) == ["0.jpg", "1.jpg"]
    assert names(find_sources([str(images / "more"), str(images / "2.png")])) == ["0.jpg", "1.jpg", "2.png"]


def test_tar_files(images, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ["more/1.jpg", "notes.txt", "3.png"]:
            archive.add(images / name, name)
        archive.add(images / "3.png", "._3.png")
    found = find_sources([str(tmp_path / "a.tar")])
    assert names(found) == ["a.tar/more/1.jpg", "a.tar/3.png"]
    assert [read_bytes(source) for source in found] == [
        (images / name).read_bytes() for name in ("more/1.jpg", "3.png")
    ]


def test_stores(images):
    store = fsspec.filesystem("memory")
    for name in NAMES:
        store.pipe_file(f"/bucket/set/{name}", (images / name).read_bytes())
    found = find_sources(["memory://bucket/set"])
    assert names(found) == NAMES
    assert read_bytes(found[5]) == (images / "more/0.jpg").read_bytes()
    store.pipe_file("/bucket/coco.json", json.dumps({"images": [{"id": 9, "file_name": "set/more/1.jpg"}]}).encode())
    (one,) = find_sources(["memory://bucket/coco.json"])
    assert (one.image_id, read_bytes(one)) == (9, (images / "more/1.jpg").read_bytes())


def test_a_json_gives_ids(images, tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"images": [{"id": 7, "file_name": "3.png"}, {"id": 2, "file_name": "more/0.jpg"}]}))
    found = find_sources([str(file)], str(images))
    assert [(one.image_id, one.name) for one in found] == [(7, "3.png"), (2, "more/0.jpg")]
    assert read_bytes(found[0]) == (images / "3.png").read_bytes()
    with pytest.raises(ValueError, match="ids of its own"):
        find_sources([str(file), str(images)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"images": [{"id": 1, "file_name": "../secret.png"}]},
            "image 1 has file_name '../secret.png', which leads out",
        ),
        ({"images": [{"id": 1, "file_name": "/etc/secret.png"}]}, "which leads out"),
        ({"images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]}, "id 1 stands for both a.png"),
        ({"images": [{"id": "1", "file_name": "a.png"}]}, "no COCO file.*id '1'"),
        ({"videos": []}, "no COCO file"),
    ],
)
def test_bad_jsons(tmp_path, content, message):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        find_sources([str(tmp_path / "a.json")])


def test_nothing_there(images, tmp_path):
    with pytest.raises(FileNotFoundError, match="no image there"):
        find_sources([str(tmp_path / "missing")])
    with tarfile.open(images / "b.tar.gz", "w:gz") as archive:
        archive.add(images / "0.png", "0.png")
    with pytest.raises(ValueError, match="compressed tar"):
        find_sources([str(images)])
    (images / "b.tar.gz").rename(images / "b.tar")
    with pytest.raises(ValueError, match=r"b\.tar: no whole tar file"):
        find_sources([str(images)])
