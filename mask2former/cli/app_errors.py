"""Errors of the web page: visitors read what helps them, and the server's log the rest."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mask2former.out_of_memory import is_out_of_memory

# An absolute path, of Unix or Windows, or one of a home; "and/or" and "1/2" are none.
_PATH = re.compile(r"(?<![\w.])(~?/|[A-Za-z]:[\\/]|\\\\)\S")
# What may be a relative path: "output/mine/a.pth", and so "and/or".
_PARTS = re.compile(r"[\w.~-]+(?:[\\/][\w.~-]+)+")
logger = logging.getLogger(__name__)


@contextmanager
def errors_on_page(file: str | None = None) -> Iterator[None]:
    """Turn what goes wrong inside into an error for the page, and log it with its traceback.

    Args:
        file: the file that the visitor sent; messages name it without the server's folders.

    Raises:
        gradio.Error: with the words of :func:`words_for_visitors` and a number that is in the log too.
    """
    import gradio

    try:
        yield
    except gradio.Error:
        raise
    except Exception as error:
        number = uuid.uuid4().hex[:8]
        logger.error("error %s on the page: %s", number, error, exc_info=error)
        words = f"{words_for_visitors(error, file)} (error {number})"
        raise gradio.Error(words, print_exception=False) from error


def words_for_visitors(error: Exception, file: str | None = None) -> str:
    """Return what a visitor may read of an error: nothing that names a folder of the server.

    Args:
        error: the error.
        file: the file that the visitor sent.
    """
    if is_out_of_memory(error):
        return "This needs more memory than the server has; try a smaller image or film."
    if isinstance(error, (OSError, ValueError)):
        words = str(error)
        if file:
            words = words.replace(file, Path(file).name)
        if not _PATH.search(words) and not any(map(_is_relative_path, _PARTS.findall(words))):
            return words
    return "The server could not do this; its log says why."


def _is_relative_path(words: str) -> bool:
    """Tell whether words with a slash name a file: they end like one, or lead to one from here."""
    words = words.rstrip(".")
    _, dot, suffix = words.replace("\\", "/").rpartition("/")[2].rpartition(".")
    try:
        return words.startswith("..") or bool(dot and suffix[:1].isalpha()) or Path(words).exists()
    except OSError:  # a name that is too long, or a folder that may not be read
        return True
