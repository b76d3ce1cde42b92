"""Find the newest whole checkpoint of a training's folder; a process that was killed may have left damaged ones."""

from __future__ import annotations

import functools
import logging
import zipfile
from pathlib import Path

import torch

from mask2former.checkpoint.torch_files import has_checksums
from mask2former.checkpoint.weights_io import read

TAG = "last_checkpoint"  # holds the name of the newest checkpoint
logger = logging.getLogger(__name__)


def damage(file: Path, checksums: bool = True) -> str:
    """Return why a file is no whole checkpoint; "" if it is one.

    Args:
        file: a .pth file.
        checksums: compare every byte with its checksum, about a second for a gigabyte; otherwise find files that were
            cut off, whose table of contents, the last thing in them, is missing. In a file that was written without
            checksums (``torch.serialization.set_crc32_options(False)``), see that its parts are where the table says.
    """
    if not file.is_file():
        return "there is no such file"
    facts = file.stat()
    return _damage(str(file), facts.st_size, facts.st_mtime_ns, checksums)


@functools.lru_cache(maxsize=16)  # resuming asks several times
def _damage(file: str, size: int, changed: int, checksums: bool) -> str:
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                broken = (archive.testzip() if has_checksums(archive) else _misplaced(archive)) if checksums else None
            return f"its part {broken} is damaged" if broken else ""
        read(file)  # a format without a table
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        return str(error) or type(error).__name__
    return ""


def _misplaced(archive: zipfile.ZipFile) -> str | None:
    """Return the name of the first part that does not begin, or fit in, where the table says; None if all do."""
    parts = sorted(archive.infolist(), key=lambda part: part.header_offset)
    ends = [part.header_offset for part in parts[1:]] + [archive.start_dir]
    for part, end in zip(parts, ends, strict=bool(parts)):
        if part.header_offset + part.compress_size > end or part.compress_size != part.file_size:
            return part.filename
        archive.open(part).close()  # raises BadZipFile if the part's own header is not there
    return None


def newest_whole(folder: str | Path) -> Path | None:
    """Return the newest whole checkpoint of a training, and log a warning if it is not the one that should be there.

    That is the file which ``last_checkpoint`` names. If that is damaged, it is the one with the most iterations among
    the others from which a training can go on.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return None
    expected, reason = _tagged(folder)
    if expected is not None and not reason:
        return expected
    others = {file: _iteration(file) for file in folder.glob("*.pth") if file != expected}
    for file in sorted((file for file in others if others[file] >= 0), key=lambda one: (others[one], one.name))[::-1]:
        if damage(file):
            continue
        logger.warning("%s Going back to %s, written at iteration %d.", reason, file, others[file])
        return file
    if (folder / TAG).exists():
        logger.warning(
            "%s No other file in %s is a complete checkpoint from which training could go on.", reason, folder
        )
    return None


def _tagged(folder: Path) -> tuple[Path | None, str]:
    """Return the file that the tag names, if any, and why it cannot be taken; "" if it can."""
    tag = folder / TAG
    if not tag.is_file():
        return None, f"{folder} has checkpoints but no {TAG}."
    name = tag.read_text(encoding="utf-8", errors="replace").strip()
    if not name or Path(name).name != name or "\0" in name:
        return None, f"{tag} holds {name!r}, which is not a file name. Was writing it interrupted?"
    reason = damage(folder / name)
    return folder / name, reason and f"{folder / name}, which {TAG} names, cannot be used ({reason})."


def _iteration(file: Path) -> int:
    """Return the iteration that a checkpoint was written after, without reading its weights; -1 without such."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        return int(content["trainer"]["iteration"])
    except Exception:  # any damage at all, and files of other programs
        return -1
