"""Downloads, mostly of weights: with a progress bar, resumed after an interruption, checked, and cached.

The cache is the one of Detectron2 and iopath (``$FVCORE_CACHE``, else ``~/.torch/iopath_cache``), so files that they
have fetched from the host of the published weights are found. Their own download cannot resume: it discards what it has
when the connection breaks. It also ignores the host: two URLs with the same path share one file.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import posixpath
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.error import HTTPError, URLError
from urllib.parse import urldefrag, urlparse
from urllib.request import Request, urlopen

from iopath.common.file_io import file_lock, get_cache_dir
from tqdm import tqdm

HUB = "hf://"
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_PUBLISHED_HOST = "dl.fbaipublicfiles.com"
_CHUNK = 1 << 20  # bytes
_TIMEOUT = 30  # seconds without a byte
_ATTEMPTS = 5
logger = logging.getLogger(__name__)


class DownloadError(OSError):
    """A file that could not be downloaded; the message says why, and how to place it by hand."""


def cache_path(url: str) -> Path:
    """Return the path in the cache for the file of a URL.

    Raises:
        ValueError: the URL would lead out of the cache, or names no file.
    """
    parsed = urlparse(url)
    *folders, name = parsed.path.lstrip("/").split("/")
    if not name or ".." in (*folders, name):
        raise ValueError(f"{url}: not the address of a file")
    if parsed.hostname != _PUBLISHED_HOST:
        folders.insert(0, parsed.netloc.rpartition("@")[2].replace(":", "_"))
    if parsed.query:
        name = f"{hashlib.sha256(parsed.query.encode()).hexdigest()[:8]}-{name}"
    return Path(get_cache_dir(), *folders, name)


def fetch(url: str) -> str:
    """Download a file, unless it is in the cache. An interrupted download is resumed.

    The size is checked if the server gives it, and the SHA-256 digest if the URL ends in ``#sha256=...``.

    Returns:
        The path of the file in the cache.

    Raises:
        DownloadError: no network, no such file, or the wrong content.
    """
    url, fragment = urldefrag(url)
    digest = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None
    path = cache_path(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(str(path)):
        if not path.is_file():
            part = path.with_name(path.name + ".part")
            try:
                _download(url, part)
                _check(part, digest)
            except (OSError, http.client.HTTPException) as error:
                raise DownloadError(_by_hand(url, path, _reason(error))) from error
            part.replace(path)
    return str(path)


def read_url(url: str, most_bytes: int) -> bytes:
    """Read the content of a URL into memory.

    Raises:
        DownloadError: no network, no such file, or more than ``most_bytes``.
    """
    try:
        with _open(url) as answer:
            content: bytes = answer.read(most_bytes + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise DownloadError(f"{url}: {_reason(error)}. Download it by hand and give its path.") from error
    if len(content) > most_bytes:
        raise DownloadError(f"{url}: more than {most_bytes >> 20} MiB. Download it by hand and give its path.")
    return content


def fetch_from_hub(address: str) -> str:
    """Download the weights of ``hf://org/name`` with the package huggingface_hub, which resumes, checks and caches.

    ``hf://org/name/file`` names a file, ``hf://org/name@revision`` a branch, tag or commit. Returns the file's path.

    Raises:
        ImportError: huggingface_hub is not installed.
        DownloadError: no network and not in its cache, or no such model.
    """
    try:
        from huggingface_hub import hf_hub_download, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError:
        raise ImportError(f"{address} needs the package huggingface_hub: pip install 'mask2former[hub]'") from None
    organisation, _, rest = address.removeprefix(HUB).partition("/")
    name, _, inside = rest.partition("/")
    name, _, revision = name.partition("@")
    repository, files = f"{organisation}/{name}", (inside,) if inside else _HUB_FILES
    reasons = []
    for file in files:
        try:
            return hf_hub_download(repository, file, revision=revision or None)
        except (OSError, ValueError, EntryNotFoundError) as error:
            reasons.append((str(error).strip() or type(error).__name__).splitlines()[0])
    raise DownloadError(
        f"{address}: {reasons[0]}\nTo download it by hand: get {files[0]} of {repository} "
        f"({hf_hub_url(repository, files[0], revision=revision or None)}) on a machine that can, and give the file's "
        "path as MODEL.WEIGHTS."
    )


def _download(url: str, part: Path) -> None:
    """Download into ``part``, continuing where it ends if the server still has the same file."""
    for attempt in range(_ATTEMPTS):
        before = _size(part)
        try:
            return _stream(url, part)
        except HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            part.unlink()
        except (OSError, http.client.HTTPException) as error:
            if _size(part) <= before or attempt == _ATTEMPTS - 1:
                raise
            logger.warning(f"{url}: {_reason(error)}; going on from byte {_size(part)}")


def _stream(url: str, part: Path) -> None:
    tag = part.with_name(part.name + ".tag")  # identifies the server's file that the download began with
    headers: dict[str, str] = {}
    if _size(part) and tag.is_file():
        headers |= {"Range": f"bytes={_size(part)}-", "If-Range": tag.read_text()}
    with _open(url, headers) as answer:
        if answer.headers.get_content_type() == "text/html":
            raise OSError("the answer is a web page, not a file of weights")
        start = _size(part) if answer.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        validator = answer.headers.get("ETag", "") or answer.headers.get("Last-Modified", "")
        if validator and not validator.startswith("W/"):
            tag.write_text(validator)
        else:
            tag.unlink(missing_ok=True)
        logger.info(f"{'Resuming' if start else 'Downloading'} {url}")
        bar = tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, disable=None)
        with open(part, "ab" if start else "wb") as file, bar:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and _size(part) != total:
        raise OSError(f"the download stopped after {_size(part)} of {total} bytes")
    tag.unlink(missing_ok=True)


def _open(url: str, headers: Mapping[str, str] = MappingProxyType({})) -> http.client.HTTPResponse:
    answer: http.client.HTTPResponse = urlopen(
        Request(url, headers={"User-Agent": "mask2former", **headers}), timeout=_TIMEOUT
    )
    return answer


def _check(part: Path, digest: str | None) -> None:
    if not _size(part):
        raise OSError("the file is empty")
    if digest:
        with open(part, "rb") as file:
            found = hashlib.sha256(file.read()).hexdigest()
        if found != digest.lower():
            part.unlink()
            raise OSError(f"its SHA-256 digest is {found}, not {digest}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, URLError):
        return f"the server cannot be reached ({error.reason})"
    return str(error) or type(error).__name__


def _by_hand(url: str, path: Path, reason: str) -> str:
    more = f" What has been downloaded so far is kept, and the next attempt goes on from there ({path}.part)."
    return (
        f"{url}: {reason}.{more if os.path.exists(f'{path}.part') else ''}\n"
        f"To download it by hand: get {posixpath.basename(urlparse(url).path)} on a machine that can, and copy it to "
        f"{path}, or give its own path as MODEL.WEIGHTS."
    )
