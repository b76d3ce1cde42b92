"""The tests' own server prints what went wrong in it, and nothing about clients that hang up."""

from __future__ import annotations

import http.server
import socket
import struct
import time

import pytest
from servers import LocalServer


class Handler(http.server.BaseHTTPRequestHandler):
    finished = 0

    def do_GET(self) -> None:
        try:
            if self.path == "/fault":
                raise LookupError("a fault of the handler")
            for _ in range(200):
                self.wfile.write(b"x" * 100_000)
        finally:
            type(self).finished += 1

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize("path", ["/file", "/fault"])
def test_only_faults_are_printed(path: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = Handler.finished
    with LocalServer(Handler).running() as server:
        with socket.create_connection(server.server_address) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # hang up without a word
            client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            client.recv(10)
        deadline = time.monotonic() + 10
        while Handler.finished == before and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)  # the report comes after the handler
    assert Handler.finished > before
    assert ("a fault of the handler" in capfd.readouterr().err) == (path == "/fault")
