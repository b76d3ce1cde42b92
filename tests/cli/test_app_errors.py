"""Errors tell a visitor of the web page what helps, and nothing of the server. The page itself: tests/test_app.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from mask2former.cli.app_errors import words_for_visitors

SENT = "/tmp/gradio/0a1b/photo of me.png"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError(f"{SENT}: not an image."), "photo of me.png: not an image."),
        (OSError(f"{SENT}: cannot be decoded ('{SENT}')."), "photo of me.png: cannot be decoded ('photo of me.png')."),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ValueError("threshold: found 2; give 0 to 1, and/or 1/2."), "threshold: found 2; give 0 to 1, and/or 1/2."),
        (ValueError("MODEL.A/B is 3"), "MODEL.A/B is 3"),
        (MemoryError(), "This needs more memory than the server has; try a smaller image or film."),
    ],
)
def test_what_helps_is_said(error: Exception, words: str) -> None:
    assert words_for_visitors(error, SENT) == words


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file or directory", "/home/jane/models/secret.pth"),
        ValueError("bad weights:/srv/models/a.pth"),
        ValueError("the folder ~/models is empty"),
        ValueError(r"found C:\models\a.pth"),
        ValueError(r"found \\server\share"),
        KeyError("/home/jane"),
        ValueError("output/mine/model_final.pth: holds no weights"),
        ValueError("output\\mine\\a.pth: holds no weights."),
        ValueError("nothing in ../models."),
        ValueError("the folder tests/cli is empty."),
        ValueError(f"{'a' * 300}/b is too long a name."),
        RuntimeError("an internal thing"),
    ],
)
def test_folders_and_surprises_are_not(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])  # where tests/cli is
    assert words_for_visitors(error, SENT) == "The server could not do this; its log says why."
