"""A real browser for tests: Chromium, asked through the WebDriver protocol (W3C) without any package."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
]
NEEDED = {"chromedriver": ("chromedriver",), "Chromium": ("chromium", "chromium-browser", "google-chrome")}


def missing():
    """What is not installed; "" if nothing."""
    return " and ".join(name for name, commands in NEEDED.items() if not any(map(shutil.which, commands)))


class Browser:
    def __init__(self, folder, width=1280, height=900):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._driver = subprocess.Popen(
            [shutil.which("chromedriver"), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._base = f"http://127.0.0.1:{port}"
        self._await_driver()
        program = next(filter(None, map(shutil.which, NEEDED["Chromium"])))
        flags = [*FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}"]
        options = {"binary": program, "args": flags}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._base += f"/session/{session['sessionId']}"

    def open(self, file):
        self._call("POST", "/url", {"url": file.resolve().as_uri()})

    def run(self, script):
        """What a script returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": []})

    def wait(self, script, times=200):
        """Until a script returns something true; returns that. Counts its questions, for a clock may run on alone."""
        for _ in range(times):
            if found := self.run(script):
                return found
            time.sleep(0.1)
        raise AssertionError(f"in vain: {script}")

    def complaints(self):
        """Errors and warnings of the console since the last call."""
        return [x["message"] for x in self._call("POST", "/se/log", {"type": "browser"}) if x["level"] != "INFO"]

    def close(self):
        try:
            self._call("DELETE", "", None)
        finally:
            self._driver.terminate()
            self._driver.wait(10)

    def _await_driver(self):
        for _ in range(300):
            try:
                if self._call("GET", "/status", None)["ready"]:
                    return
            except urllib.error.URLError:
                time.sleep(0.1)
        raise RuntimeError("chromedriver does not answer")

    def _call(self, method, path, content):
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self._base + path, body, {"Content-Type": "application/json"}, method=method)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # not through a proxy to this machine
        with direct.open(request, timeout=120) as answer:
            return json.load(answer)["value"]
