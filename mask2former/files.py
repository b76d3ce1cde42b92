"""Files that are whole or not there: written under a temporary name, flushed to the disk, and then renamed.

A process that is killed, or a disk that is full, leaves the old file (or none) under the final name, never a part.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

SUFFIX = ".part"  # of temporary files, whose names begin with a dot and the final name
_TEMPORARY = re.compile(rf"\..+\.[0-9a-f]{{8}}{re.escape(SUFFIX)}(\.[^.]+)?", re.DOTALL)
_REMOTE = re.compile(r"([A-Za-z][\w+.-]+):(//?)(?=[^/])")  # two letters or more: "C:/" is a disk of Windows


@contextlib.contextmanager
def whole_file(path: str | Path, mode: str = "wb", *, sync: bool = True) -> Iterator[IO[Any]]:
    """Open a file for writing that gets its name only when the ``with`` block ends without an error.

    Args:
        path: the final name; its folder exists. Of a symbolic link, the file that it leads to is replaced; a device
            or a pipe is written to directly. An address such as "s3://bucket/file" is sent to Detectron2's
            ``PathManager`` once the block has ended without an error; ``Path``, which leaves one slash, will do.
        mode: "wb" for bytes, "w" for text (UTF-8).
        sync: wait until the disk has it, so that it outlives a power cut too and not only this process.

    Raises:
        OSError: the disk is full, or the folder is not writable; it names ``path``, and nothing is left behind.
    """
    if address := _address(path):
        with _sent(address, mode) as file:
            yield file
        return
    with whole_path(path, sync=sync) as temporary, _NotingFile(temporary, mode) as file:
        try:
            yield cast(IO[Any], file)
        except Exception as error:
            # torch.save turns an error of the file into one that says nothing about the reason.
            if file.failure is None or file.failure is error:
                raise
            raise file.failure from error


@contextlib.contextmanager
def whole_path(path: str | Path, *, sync: bool = True) -> Iterator[Path]:
    """Give a temporary name in the folder of ``path``, for programs that want a name to write to; then rename it.

    The temporary name ends in ``SUFFIX``; see :func:`write_by` for programs that look at the suffix.

    Raises:
        OSError: see :func:`whole_file`.
    """
    final = Path(os.path.realpath(path))
    if final.exists() and not final.is_file():
        try:
            yield final
        except OSError as error:
            raise _named(error, path) from error
        return
    short = final.name.encode()[:150].decode(errors="ignore")  # names may have 255 bytes
    temporary = final.with_name(f".{short}.{secrets.token_hex(4)}{SUFFIX}")
    try:
        # Not tempfile's functions, whose files nobody else may read.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        _settle(temporary, final, sync)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _named(error, path) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_by(path: str | Path, write: Callable[[str], Any]) -> None:
    """Call ``write`` with a temporary name of the same suffix as ``path``, and rename what it has written.

    Args:
        path: the final name.
        write: writes a file of the name that it gets.

    Raises:
        OSError: see :func:`whole_file`.
    """
    with whole_path(path) as temporary:
        suffixed = temporary.with_name(temporary.name + Path(path).suffix)
        try:
            write(str(suffixed))
            _set_mode(suffixed, temporary.stat().st_mode)  # safetensors' files are their owner's alone
            os.replace(suffixed, temporary)
        finally:
            suffixed.unlink(missing_ok=True)


def write_text(path: str | Path, text: str, *, sync: bool = True) -> Path:
    """Write a whole text file (UTF-8), and return its path."""
    with whole_file(path, "w", sync=sync) as file:
        file.write(text)
    return Path(path)


def cut_partial_line(path: str | Path) -> None:
    """Remove the last line of a file of lines if it has no end, as of a killed process, so that others can follow."""
    path = Path(path)
    if not path.is_file():
        return
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Remove temporary files that killed processes left in a folder in which nobody writes now; return their paths."""
    found = Path(folder).glob(f".*{SUFFIX}*")
    left = sorted(path for path in found if _TEMPORARY.fullmatch(path.name) and path.is_file())
    for path in left:
        path.unlink(missing_ok=True)
    return left


def _address(path: str | Path) -> str:
    """Return the address of a file elsewhere, with the two slashes of which ``Path`` keeps one; "" for local files."""
    text = str(path)
    found = _REMOTE.match(text)
    if not found or (found[2] == "/" and os.path.isdir(f"{found[1]}:")):
        return ""
    return f"{found[1]}://{text[found.end() :]}"


@contextlib.contextmanager
def _sent(address: str, mode: str) -> Iterator[IO[Any]]:
    """Collect the content in a temporary file, for closing a remote one after an error may send what there is of it."""
    from detectron2.utils.file_io import PathManager  # takes a while; most programs write local files alone

    with tempfile.TemporaryFile() as content:
        if "b" in mode:
            yield cast(IO[Any], content)
        else:
            text = io.TextIOWrapper(content, encoding="utf-8")
            yield text
            text.detach()  # flushes
        content.seek(0)
        with PathManager.open(address, "wb") as file:
            shutil.copyfileobj(content, file)


class _NotingFile:
    """A file that notes the first error of writing."""

    def __init__(self, path: Path, mode: str) -> None:
        self._file: IO[Any] = open(path, mode, encoding=None if "b" in mode else "utf-8")  # noqa: SIM115 (in __exit__)
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.failure = self.failure or error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _NotingFile:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # After an error, closing may fail too, for what is still to be written; the first one is on its way.
        with contextlib.suppress(OSError) if error else contextlib.nullcontext():
            self._file.close()


io.IOBase.register(_NotingFile)  # torch.export.save asks whether it is a file


def _settle(temporary: Path, final: Path, sync: bool) -> None:
    """Rename the file; if ``sync``, first flush its content to the disk, and then the folder, which holds the name."""
    if sync:
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
    if final.exists():
        _set_mode(temporary, final.stat().st_mode & 0o777)
    os.replace(temporary, final)
    if sync and os.name == "posix":
        # The new file is there. File systems such as CIFS and FUSE refuse to flush a folder, and one that may be
        # written to but not listed cannot be opened: that makes a power cut riskier, but the file is no less written.
        with contextlib.suppress(OSError):
            folder = os.open(final.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _set_mode(path: str | Path, mode: int) -> None:
    """Set the permissions where the file system has them: CIFS and FUSE may refuse to, which is no reason to fail."""
    with contextlib.suppress(OSError):
        os.chmod(path, mode)


def _named(error: OSError, path: str | Path) -> OSError:
    """Return the error with the name that the user knows in place of the temporary one."""
    if error.errno is None:
        return OSError(f"{path} was not written: {error}")
    return type(error)(error.errno, f"{os.strerror(error.errno)}; nothing was written", str(path))
