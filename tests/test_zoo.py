"""The published models, and how their files are fetched: from a server on this machine."""

from __future__ import annotations

import hashlib
import http.server
import json
import pickle
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from servers import LocalServer
from torch import nn

from mask2former import download, zoo
from mask2former.checkpoint import MaskFormerCheckpointer
from mask2former.download import DownloadError, cache_path, fetch

ROOT = Path(__file__).parents[1]
PUBLISHED = json.loads((ROOT / "tests/spec/published_model_zoo.json").read_text())
OTHERS = re.compile("eomt|kmax|youtubevis")  # of other papers
CONTENT = np.random.default_rng(0).bytes(3_000_000)


class Server(LocalServer):
    """Serves ``files``; a connection breaks after ``limit`` bytes of them, ``breaks`` times."""

    limit, breaks, etag, content_type = 10**9, 0, '"1"', "application/octet-stream"

    def __init__(self) -> None:
        super().__init__(Handler)
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.ranges.append(wanted)
        if self.path not in server.files:
            return self.send_error(404)
        data, start = server.files[self.path], 0
        if wanted and self.headers.get("If-Range") == server.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Content-Type", server.content_type)
        self.send_header("ETag", server.etag)
        self.end_headers()
        body = data[start:]
        if server.breaks > 0:
            server.breaks -= 1
            body = body[: server.limit]
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.files["/a/model.pkl"] = CONTENT
    with server.running():
        yield server


def test_table_is_the_published_one() -> None:
    rows = [row for row in PUBLISHED if not row["section"].startswith("Video")]
    models = [model for model in zoo.models().values() if not OTHERS.search(model.name)]
    found = {model.published_config: model for model in models}
    assert len(rows) == len(found) == len(models) == 47
    for row in rows:
        model = found[row["config"]]
        _, schedule, *scores, model_id = row["cells"]
        assert model.weights == row["weights"] and model.model_id == model_id
        assert model.schedule.removesuffix(" epochs") == schedule
        assert list(model.scores.values()) == [float(score) for score in scores]
        dataset, task = row["section"].removesuffix(" Model Zoo"), row["task"].split()[0]
        assert model.name.startswith(f"{dataset.replace(' ', '_')}/{task}/".lower())


def test_models_of_clips_are_the_published_ones() -> None:
    rows = json.loads((ROOT / "tests/spec/published_video.json").read_text())["model_zoo"]
    found = {m.published_config: m for m in zoo.models().values() if m.name.startswith("youtubevis")}
    assert len(rows) == len(found) == 12
    for row in rows:
        model, start = found[row["config"]], row["starts_from"]
        assert (model.weights, model.model_id, model.schedule) == (row["weights"], row["model_id"], row["iterations"])
        assert model.scores == {"AP": row["AP"]} and model.name.startswith(f"youtubevis_{row['data'][-4:]}/instance/")
        # Configurations name the weights that they begin with by their file, which is that of an image model.
        image = zoo.find_model(start["file"])
        assert image is not None and image.weights == start["url"] and image.published_config == start["config"]


def test_models_of_the_hub_are_fetched_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "fetch_from_hub", lambda weights: f"/cache/{weights.removeprefix('hf://')}")
    model = zoo.find_model("coco/panoptic/eomt_large_640")
    assert model and not model.is_cached and model.licence == "MIT" and model.scores == {"PQ": 56.0}
    assert model.fetch() == zoo.weights_file(model.name) == "/cache/tue-mps/coco_panoptic_eomt_large_640"


def test_models_on_google_drive_say_how_they_are_fetched() -> None:
    published = json.loads((ROOT / "tests/spec/published_kmax.json").read_text())["zoo"]
    assert len(published) == 9
    for name, row in published.items():
        model = zoo.find_model(name.replace("/", "/panoptic/"))
        assert model and model.weights == row["weights"] and model.licence == "Apache-2.0" and not model.is_cached
        assert model.scores == {key: row[key] for key in ("PQ", "AP", "mIoU") if key in row}
        assert model.published_config == f"configs/{row['config']}"
        with pytest.raises(zoo.DownloadError, match=r"gdown --fuzzy https://drive.google.com/.*set MODEL.WEIGHTS"):
            model.fetch()


def test_every_model_has_its_configuration() -> None:
    """And every configuration of Mask2Former on the published data sets its model; MaskFormer's others have none."""
    own = re.compile(
        "configs/(coco|ade20k|cityscapes|mapillary_vistas)/[a-z]+/(?!maskformer|per_pixel|eomt|segvit|kmax|max_deeplab)"
    )
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("configs/*/*/*.yaml")}
    assert all(model.config in files for model in zoo.models().values())
    ours = {model.config for model in zoo.models().values() if not OTHERS.search(model.name)}
    assert ours == {file for file in files if own.match(file)}


def test_a_download_is_whole_and_cached(server: Server) -> None:
    url = f"{server.url}/a/model.pkl"
    path = Path(fetch(url))
    assert path.read_bytes() == CONTENT and path == cache_path(url)
    assert fetch(url) == str(path) and len(server.ranges) == 1
    assert {p.name for p in path.parent.iterdir()} <= {"model.pkl", "model.pkl.lock"}


def test_a_broken_download_goes_on_where_it_broke_off(server: Server) -> None:
    server.limit, server.breaks = 1_000_000, 2
    assert Path(fetch(f"{server.url}/a/model.pkl")).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000000-", "bytes=2000000-"]


def test_a_later_attempt_resumes(server: Server) -> None:
    url = f"{server.url}/a/model.pkl"
    server.limit, server.breaks = 100_000, 10**9
    with pytest.raises(
        DownloadError, match=r"the download stopped after 500000 of 3000000 bytes.* What has been downloaded so far"
    ):
        fetch(url)
    assert not cache_path(url).exists()
    server.breaks = 0
    assert Path(fetch(url)).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=500000-"


def test_another_file_of_that_name_is_not_glued_on(server: Server) -> None:
    url = f"{server.url}/a/model.pkl"
    server.limit, server.breaks = 100_000, 10**9
    with pytest.raises(DownloadError):
        fetch(url)
    server.files["/a/model.pkl"], server.etag, server.breaks = CONTENT[::-1], '"2"', 0
    assert Path(fetch(url)).read_bytes() == CONTENT[::-1]


def test_what_was_fetched_whole_but_not_renamed_is_fetched_again(server: Server) -> None:
    url = f"{server.url}/a/model.pkl"
    part = cache_path(url).with_name("model.pkl.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    part.with_name("model.pkl.part.tag").write_text(server.etag)
    assert Path(fetch(url)).read_bytes() == CONTENT
    assert server.ranges == ["bytes=3000000-", None]


def test_digest(server: Server) -> None:
    url = f"{server.url}/a/model.pkl"
    with pytest.raises(DownloadError, match="its SHA-256 digest is"):
        fetch(url + "#sha256=" + "0" * 64)
    assert not list(cache_path(url).parent.glob("*.pkl")) and not list(cache_path(url).parent.glob("*.part"))
    assert fetch(url + "#sha256=" + hashlib.sha256(CONTENT).hexdigest()) == str(cache_path(url))


def test_no_such_file_and_pages_in_its_stead(server: Server) -> None:
    with pytest.raises(DownloadError, match="the server answers 404 Not Found"):
        fetch(f"{server.url}/a/other.pkl")
    server.content_type = "text/html"
    with pytest.raises(DownloadError, match="a web page"):
        fetch(f"{server.url}/a/model.pkl")
    server.content_type, server.files["/a/model.pkl"] = "application/octet-stream", b""
    with pytest.raises(DownloadError, match="the file is empty"):
        fetch(f"{server.url}/a/model.pkl")


@pytest.mark.usefixtures("cache_folder")
def test_without_a_network_the_error_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a/model.pkl"
    # Nobody listens there any more.
    with pytest.raises(DownloadError, match="cannot be reached") as caught:
        fetch(url)
    assert f"get model.pkl on a machine that can, and copy it to {cache_path(url)}" in str(caught.value)
    cache_path(url).write_bytes(CONTENT)  # as it says
    assert Path(fetch(url)).read_bytes() == CONTENT


def test_the_cache_keeps_hosts_apart_and_is_not_left(cache_folder: Path) -> None:
    published = zoo.models()["coco/panoptic/r50"].weights
    assert cache_path(published).relative_to(cache_folder).parts[0] == "maskformer"  # where iopath puts it
    assert len({cache_path(f"https://{host}/m.pth{query}") for host in "ab" for query in ("", "?1", "?2")}) == 6
    for url in ("https://a/../../.profile", "https://a/b/..", "https://a/"):
        with pytest.raises(ValueError, match="not the address of a file"):
            cache_path(url)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)


@pytest.fixture
def tiny_zoo(server: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """A published model that lies on the server."""
    arrays = {f"linear.{name}": value.numpy() for name, value in nn.Linear(2, 2).state_dict().items()}
    server.files["/tiny.pkl"] = pickle.dumps({"model": arrays, "__author__": "third_party"})
    model = zoo.Model("a/b/c", "c.yaml", "1", "1k", {"PQ": 1.0}, f"{server.url}/tiny.pkl", "CC BY-NC 4.0")
    monkeypatch.setattr(zoo, "models", lambda: {model.name: model})
    return arrays


def test_weights_by_name(tiny_zoo: dict, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    for weights in ("a/b/c", f"{server.url}/tiny.pkl"):
        model = Tiny()
        MaskFormerCheckpointer(model).load(weights)
        assert np.array_equal(model.linear.weight.detach().numpy(), tiny_zoo["linear.weight"])
    assert sum("licence CC BY-NC 4.0" in message for message in caplog.messages) == 1  # not for what is cached
    assert server.ranges == [None]


def test_a_name_without_a_network(
    tiny_zoo: dict, server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise URLError("Network is unreachable")

    monkeypatch.setattr(download, "urlopen", unreachable)
    path = cache_path(f"{server.url}/tiny.pkl")
    with pytest.raises(DownloadError, match=r"cannot be reached \(Network is unreachable\)") as caught:
        MaskFormerCheckpointer(Tiny()).load("a/b/c")
    assert f"copy it to {path}" in str(caught.value)
    assert zoo.main(["a/b/c"]) == 2 and "To download it by hand" in capsys.readouterr().err
    path.write_bytes(server.files["/tiny.pkl"])  # as it says
    MaskFormerCheckpointer(Tiny()).load("a/b/c")


def test_a_file_goes_before_a_name(tiny_zoo: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a/b").mkdir(parents=True)
    Path("a/b/c").write_bytes(b"mine")
    assert zoo.weights_file("a/b/c") == "a/b/c"


def test_names_that_are_none() -> None:
    with pytest.raises(FileNotFoundError, match=r"coco/panoptic/r5: no weights file.*similar ones: coco/panoptic/r50"):
        zoo.weights_file("coco/panoptic/r5")
    assert zoo.weights_file("s3://bucket/x.pth") == "s3://bucket/x.pth"  # for the PathManager


@pytest.mark.parametrize(
    ("address", "held"),
    [
        ("hf://org/name", ("org/name", "model.safetensors", None)),
        ("hf://org/name", ("org/name", "pytorch_model.bin", None)),
        ("hf://org/name@v2", ("org/name", "model.safetensors", "v2")),
        ("hf://org/name/sub/x.pth", ("org/name", "sub/x.pth", None)),
    ],
)
def test_hub(monkeypatch: pytest.MonkeyPatch, address: str, held: tuple) -> None:
    hub = pytest.importorskip("huggingface_hub")
    there = False

    def download(repository: str, file: str, revision: str | None = None) -> str:
        """The package's own, of a hub with one file."""
        if there and (repository, file, revision) == held:
            return "cached"
        raise hub.errors.LocalEntryNotFoundError("cannot find the file in the cache, nor reach the hub")

    monkeypatch.setattr(hub, "hf_hub_download", download)
    with pytest.raises(DownloadError, match=r"nor reach the hub\nTo download it by hand: get .* of org/name"):
        zoo.weights_file(address)
    there = True
    assert zoo.weights_file(address) == "cached"


def test_command(tiny_zoo: dict, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo.main([]) == 0
    assert re.search(r"a/b/c +1k +PQ 1\.0 +no\n", listing := capsys.readouterr().out) and "CC BY-NC 4.0" in listing
    assert zoo.main(["a/b/c"]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()
    zoo.main([])
    assert re.search(r"a/b/c +1k +PQ 1\.0 +yes\n", capsys.readouterr().out)
    assert zoo.main(["x"]) == 2 and "not a published model" in capsys.readouterr().err
