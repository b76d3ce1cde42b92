"""Check a file of ``torch.save`` before it is loaded: what it holds takes no more memory than the file has bytes."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from typing import IO

from mask2former.checkpoint.pickle_scan import scan

_ZIP = b"PK\x03\x04"
_LEGACY_PICKLES = 5  # magic number, protocol, system, the object, and the keys of the storages that follow


def check_torch_file(file: IO[bytes]) -> bool:
    """Look through a file in either of PyTorch's formats; it is at its start afterwards.

    Returns:
        True for an archive, False for the format before PyTorch 1.6.

    Raises:
        pickle.UnpicklingError: records of the archive are compressed or overlap, as in files that unpack to thousands
            of times their size; or a pickle in it is none of weights, see
            :func:`mask2former.checkpoint.pickle_scan.scan`.
        zipfile.BadZipFile: the archive is broken.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    is_archive = file.read(len(_ZIP)) == _ZIP
    file.seek(0)
    if is_archive:
        _check_archive(file, size)
    else:
        for _ in range(_LEGACY_PICKLES):
            scan(file)
    file.seek(0)
    return is_archive


def _check_archive(file: IO[bytes], size: int) -> None:
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        for record in records:
            if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
                raise pickle.UnpicklingError(
                    f"its record {record.filename} is compressed, {record.compress_size:,} bytes for "
                    f"{record.file_size:,}; torch.save does not compress"
                )
        total = sum(record.file_size for record in records)
        if total > size:
            raise pickle.UnpicklingError(f"its records of {total:,} bytes do not fit into a file of {size:,}")
        if not has_checksums(archive):
            for record in records:
                del record.CRC  # zipfile compares none then
        for record in records:
            if record.filename.endswith(".pkl"):
                scan(io.BytesIO(archive.read(record)))  # as large as what PyTorch reads of it


def has_checksums(archive: zipfile.ZipFile) -> bool:
    """Tell whether the table has checksums; without, PyTorch writes zeros, which damage of the parts does not do."""
    return any(part.CRC for part in archive.infolist())
