"""The web page, in a real browser: an image or a film goes in, a drawn one comes out."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import cv2
import numpy as np
import pytest

from mask2former import Predictor
from mask2former.cli import app
from mask2former.cli.app import page_words
from mask2former.predictor.video import Frames
from mask2former.predictor.video_file import VideoFile

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "demo" / "app.py"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1280,1000"),
)
PATIENCE = 60  # seconds
FRAMES = 12

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("examples") / "noise.png"
    cv2.imwrite(str(file), np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    return file


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page writes."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def address(small_training: Path, image: Path, files: Path) -> Iterator[str]:
    """Of the running page."""
    pytest.importorskip("gradio", reason="the web page needs gradio (extra: app)")
    command = [sys.executable, str(SCRIPT), "--model", str(small_training), "--examples", str(image.parent)]
    with running_page(command, files) as (url, _):
        yield url


@contextmanager
def running_page(command: list[str], files: Path) -> Iterator[tuple[str, Path]]:
    """Start the page; give its address on this machine and the file of what it logs."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(files)}
    log = files / "log.txt"
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("page: http://"), f"{line!r}, status {process.poll()}: {log.read_text()[-500:]}"
        yield line.split()[1].replace("localhost", "127.0.0.1"), log
    finally:
        process.terminate()
        process.wait(PATIENCE)
    assert not [file for file in files.rglob("*") if file.is_file() and file != log], "left behind"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="driving a browser needs selenium")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


def wait_for(condition: Any, what: str) -> Any:
    """The condition's value once it is true. The page answers when the model does."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {PATIENCE} s")


def drop(browser: Any, file: Path) -> None:
    """Give an image to the page."""
    wait_for(lambda: browser.find_elements("css selector", "input[type=file]"), "room for an image")[0].send_keys(
        str(file)
    )


def shown(browser: Any) -> str | None:
    """Return the address of the drawn image, None while there is none."""
    found = browser.find_elements("css selector", "#result img")
    return found[0].get_attribute("src") if found else None


def click(browser: Any, where: str, text: str) -> None:
    labels = browser.find_elements("css selector", f"{where} label")
    browser.execute_script(
        "arguments[0].click()", next(label for label in labels if text.lower() in label.text.lower())
    )


def test_an_image_dropped_on_the_page_is_drawn(
    address: str, browser: Any, image: Path, files: Path, tmp_path: Path
) -> None:
    browser.get(address)
    drop(browser, image)
    first = wait_for(lambda: shown(browser), "a drawn image")
    assert (
        wait_for(
            lambda: browser.execute_script(
                "const image = document.querySelector('#result img'); return image.complete && image.naturalWidth"
            ),
            "pixels",
        )
        == 6 * 80
    )

    click(browser, "#task", "semantic")
    second = wait_for(lambda: shown(browser) != first and shown(browser), "the semantic result")
    assert wait_for(lambda: "%" in browser.find_element("id", "found").text, "a table of classes")
    click(browser, "#mode", "masks")
    wait_for(lambda: shown(browser) != second and shown(browser), "masks alone")

    assert not list(files.rglob("noise_*.json")), "written before anybody asked"
    browser.find_element("id", "json").click()
    file = wait_for(lambda: next(tmp_path.glob("noise_semantic.json"), None), "a downloaded file")
    content = json.loads(file.read_text())
    assert content["images"][0]["height"] == 60
    assert sum(annotation["area"] for annotation in content["annotations"]) == 60 * 80

    broken = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not broken


def test_what_is_no_image_gets_an_answer(address: str, browser: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG no more")
    browser.get(address)
    drop(browser, bad)
    said = wait_for(lambda: "bad.png: not an image" in text_of(browser) and text_of(browser), "an error on the page")
    assert f"/{bad.name}" not in said


def text_of(browser: Any) -> str:
    return browser.find_element("tag name", "body").text


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("film") / "noise.mp4"
    video = VideoFile(file, 6.0)
    for t in range(FRAMES):
        video.write(np.random.default_rng(t).integers(0, 256, (60, 80, 3), np.uint8), t / 6)
    video.close()
    return file


def give_film(browser: Any, address: str, file: Path) -> None:
    browser.get(address)
    tabs = wait_for(lambda: browser.find_elements("css selector", "button[role=tab]"), "tabs")
    next(tab for tab in tabs if tab.text == "Film").click()
    wait_for(lambda: browser.find_elements("css selector", "#film-input input[type=file]"), "room")[0].send_keys(
        str(file)
    )
    wait_for(lambda: browser.find_elements("css selector", "#film-input video"), "the film that was sent")


def test_a_film_is_drawn_plays_and_is_downloaded(address: str, browser: Any, film: Path, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="browsers play H.264, which PyAV writes (extra: video)")
    give_film(browser, address, film)
    browser.find_element("id", "film-start").click()
    wait_for(lambda: f"{FRAMES} frames, " in browser.find_element("id", "film-said").text, "the end of the film")
    playing = "const film = document.querySelector('#film-result video');"
    size = wait_for(
        lambda: browser.execute_script(
            f"{playing} return film && film.readyState > 1 && [film.videoWidth, film.duration]"
        ),
        "a film that can be played",
    )
    assert size == [6 * 80, pytest.approx(FRAMES / 6, abs=0.2)]
    browser.execute_script(f"{playing} film.muted = true; film.play()")
    wait_for(lambda: browser.execute_script(f"{playing} return film.currentTime > 0.2"), "a film that plays")
    found = {}
    for part, suffix in (("film-tracks", "json"), ("film-result", "mp4")):
        browser.find_element("css selector", f"#{part} a[download]").click()
        found[suffix] = wait_for(
            lambda suffix=suffix: next(tmp_path.glob(f"*.{suffix}"), None), f"a downloaded {suffix}"
        )
    assert json.loads(found["json"].read_text())["videos"][0]["length"] == FRAMES
    assert len(list(Frames(found["mp4"]))) == FRAMES
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_what_is_no_film_gets_an_answer(address: str, browser: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no film")
    give_film(browser, address, bad)
    browser.find_element("id", "film-start").click()
    said = wait_for(lambda: "bad.mp4: not a video" in text_of(browser) and text_of(browser), "an error on the page")
    assert f"/{bad.name}" not in said


def test_visitors_read_nothing_of_the_servers_folders(small_training: Path, image: Path, tmp_path: Path) -> None:
    """Every handler is called as a program would, with files that are none and with values that fit nothing."""
    client = pytest.importorskip("gradio_client")
    (tmp_path / "page").mkdir()
    bad = tmp_path / "broken.bin"
    bad.write_bytes(b"neither image nor film")
    command = [sys.executable, str(SCRIPT), "--model", str(small_training), "--examples", str(image.parent)]
    with running_page([*command, "--host", "0.0.0.0"], tmp_path / "page") as (url, log):
        one = client.Client(url, verbose=False)
        sent = client.handle_file(str(bad))
        paths = (log, image, "/etc/passwd", tmp_path / "missing.png")
        metas: list[dict[str, Any]] = [
            {"meta": {"_type": "gradio.FileData"}},
            {"meta": {"_type": "x"}},
            {"meta": {}},
            {},
        ]
        outside = [{"path": str(path), **meta} for path in paths for meta in metas]
        calls: list[tuple[str, list[Any]]] = [("predict", [sent]), ("draw", [sent, "panoptic", "overlay"])]
        calls += [("write", ["panoptic", 0.5]), ("show", ["panoptic", "overlay", "much", True])]
        answers = []
        for name, values in calls:
            with pytest.raises(Exception) as error:
                one.predict(*values, api_name=f"/{name}")
            answers.append(str(error.value))
        answers += [
            ask(url, name, [file, *rest]) for file in outside for name, rest in (("predict", []), ("draw", ["a", "b"]))
        ]
        page = ask_page(url)
        written = log.read_text()
    assert "broken.bin: not an image" in answers[0] and "broken.bin: not a video" in answers[1]
    assert "image first" in answers[2]
    assert all("error" in answer for answer in answers[4:])
    secrets = [str(tmp_path), str(small_training), str(image.parent), str(ROOT), sys.prefix]
    for text in answers:
        assert not [secret for secret in secrets if secret in text], text
    # Files of the page are served from its own folder, which its addresses name; of the others it says nothing.
    assert not [secret for secret in secrets[1:] if secret in page]
    number = re.search(r"error (\w{8})", answers[0])
    assert number and f"error {number[1]} on the page: {tmp_path}" in written and "Traceback" in written


def ask(url: str, handler: str, values: list[Any]) -> str:
    """Return what a handler answers to values that the client of gradio would not send."""
    request = Request(f"{url}gradio_api/call/{handler}", json.dumps({"data": values}).encode())
    request.add_header("Content-Type", "application/json")
    with urlopen(request, timeout=PATIENCE) as answer:
        number = json.load(answer)["event_id"]
    with urlopen(f"{url}gradio_api/call/{handler}/{number}", timeout=PATIENCE) as answer:
        return answer.read().decode()


def ask_page(url: str) -> str:
    with urlopen(f"{url}config", timeout=PATIENCE) as answer:
        return answer.read().decode()


def test_old_files_go_while_the_page_runs_and_examples_stay(
    small_training: Path, image: Path, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = pytest.importorskip("gradio_client")
    monkeypatch.setenv(app.GRADIO_FOLDER, str(tmp_path))
    monkeypatch.setattr(app, "SWEEP", 1)
    monkeypatch.setattr(app, "KEPT", 15)  # longer than the film takes to be opened
    page = app.build_page(Predictor(small_training, device="cpu"), [str(image)], tmp_path, "words")
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    assert [file.name for file in before] == [image.name]
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True)
    try:
        one = client.Client(url, verbose=False, download_files=False)
        drawn, _, tracks = one.predict(client.handle_file(str(film)), "panoptic", "overlay", api_name="/draw")
        assert drawn and tracks
        wait_for(
            lambda: {file for file in tmp_path.rglob("*") if file.is_file()} == before, "no file left but examples"
        )
    finally:
        page.close()


@pytest.mark.parametrize("trusted", [False, True])
def test_code_in_a_configuration_runs_only_when_asked(trusted: bool, small_training: Path, tmp_path: Path) -> None:
    """An empty module stands for gradio: it is not reached."""
    text = (small_training / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(f"{text}\nSEED: !!python/object/apply:builtins.int ['77']\n")
    words = [str(SCRIPT), "--model", str(tmp_path / "config.yaml"), *["--allow-unsafe-config"] * trusted]
    code = f"import runpy, sys, types; sys.modules['gradio'] = types.ModuleType('gradio'); sys.argv = {words!r}"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert ("--allow-unsafe-config" in done.stderr) != trusted, done.stderr
    assert ("MODEL.WEIGHTS is empty" in done.stderr) == trusted, done.stderr


def test_the_page_names_its_model(small_training: Path) -> None:
    predictor = Predictor(small_training, device="cpu")
    here, served = (page_words(predictor, "output/`mine`", "so", local=local) for local in (True, False))
    assert "`output/'mine'`" in here and "*Note: so*" in here
    assert f"{len(predictor.names)} classes" in here and all(task in here for task in predictor.tasks)
    assert "does not leave this machine." in here and "this machine" not in served


def test_without_gradio_it_says_what_to_install() -> None:
    """An empty module of that name, which cannot be imported, stands for its absence."""
    hidden = f"sys.modules['gradio'] = None; sys.argv = [{str(SCRIPT)!r}]"
    code = f"import runpy, sys; {hidden}; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith("pip install 'mask2former[app]'")
