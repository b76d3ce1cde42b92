"""The web page, in a real browser: an image goes in, a drawn one comes out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mask2former import Predictor
from mask2former.cli.app import page_words

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "demo" / "app.py"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1280,1000"),
)
PATIENCE = 60  # seconds

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
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(files)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("page: http://127.0.0.1:"), f"{line!r}, status {process.poll()}"
    yield line.split()[1]
    process.terminate()
    process.wait()


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
    wait_for(lambda: "cannot identify image" in browser.find_element("tag name", "body").text, "an error on the page")


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
