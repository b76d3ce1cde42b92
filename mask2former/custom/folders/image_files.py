"""Find the image files that annotation files name, though their paths are those of another machine."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PureWindowsPath

from mask2former.custom.source import DataError
from mask2former.data.datasets.readers import IMAGE_SUFFIXES

MOST_FILES = 2_000_000  # below a folder
Parts = tuple[str, ...]


class ImageFiles:
    """The image files below a folder. Links to folders are not followed, hidden folders are left out.

    Args:
        root: the folder.

    Raises:
        DataError: there are more than ``MOST_FILES`` files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_name: dict[str, list[Parts]] = defaultdict(list)
        number = 0
        for folder, inner, names in os.walk(root):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            number += len(names)
            if number > MOST_FILES:
                raise DataError(f"{root} holds more than {MOST_FILES:,} files: name the folder of the images itself.")
            place = Path(folder).relative_to(root).parts
            for name in names:
                if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith("."):
                    self._by_name[name].append((*place, name))

    def find(self, name: object, near: str | None = None) -> str | None:
        """Return the path, relative to the root and with slashes, of the file that a name means; None if none is.

        The file's own name has to be equal; of several the one is taken whose folders agree the furthest, then one
        below the folder ``near``.

        Raises:
            DataError: several files agree as far.
        """
        wanted = name_parts(name)
        found = self._by_name.get(wanted[-1], []) if wanted else []
        if len(found) > 1:
            agreement = [_agreement(parts, wanted) for parts in found]
            found = [parts for parts, far in zip(found, agreement, strict=True) if far == max(agreement)]
        if len(found) > 1 and near is not None:
            found = [parts for parts in found if near in parts[:-1]] or found
        if len(found) > 1:
            places = " and ".join("/".join(parts) for parts in found[:2])
            raise DataError(f"{self.root}: the file name {name!r} may mean {places}. Give files different names.")
        return "/".join(found[0]) if found else None


def name_parts(name: object) -> Parts:
    """Return the parts of a path of any system, without drive, root, ``.`` and ``..``."""
    if not isinstance(name, str) or "\0" in name:
        return ()
    path = PureWindowsPath(name.removeprefix("file://"))
    return tuple(part for part in path.parts if part != path.anchor and part not in (".", ".."))


def find_listed(
    file: str, names: Sequence[object], candidates: Iterable[Path], root: Path, near: str | None
) -> tuple[Path, dict[str, str], str | None]:
    """Find the images that an annotation file lists.

    Args:
        file: the annotation file, for messages.
        names: the file names in it.
        candidates: folders that may be the images'.
        root: where else to look.
        near: name of the folder that is preferred in case of doubt.

    Returns:
        The folder; if no name is a path below one of the candidates, the paths that were found below ``root``, by name;
        and a line for the user if there are such.

    Raises:
        DataError: none is found, or a name may mean several files.
    """
    wanted = [parts for parts in map(name_parts, names) if parts]
    best: tuple[int, Path] | None = None
    for folder in candidates:
        count = sum(_is_below(folder, name) for name in names) if folder.is_dir() else 0
        if count and (best is None or count > best[0]):
            best = (count, folder)
        if count == len(names):
            break
    if best is not None:  # files that are missing there are faults, not files of another folder
        return best[1], {}, None
    index = ImageFiles(root)
    found = {name: place for name in names if isinstance(name, str) and (place := index.find(name, near))}
    if not found and wanted:
        raise DataError(
            f"{file}: none of its {len(names)} images is below {root}; the first is {'/'.join(wanted[0])!r}. Give the "
            "folder of the images behind the file."
        )
    changed = {name: place for name, place in found.items() if name != place}
    if not changed:
        return root, {}, None
    places = Counter(os.path.dirname(place) for place in found.values())
    where = str(root / places.most_common(1)[0][0]) if len(places) == 1 else f"{len(places)} folders of {root}"
    many = f"all {len(names)}" if len(found) == len(names) else f"{len(found)} of {len(names)}"
    first = next(iter(changed))
    return root, changed, f"{file}: its file names, such as {first!r:.120}, lead nowhere; {many} were found in {where}."


def _is_below(folder: Path, name: object) -> bool:
    """Tell whether a name is a path of a file below a folder, which does not lead out of it."""
    return isinstance(name, str) and "/".join(name_parts(name)) == name and (folder / name).is_file()


def _agreement(parts: Parts, wanted: Parts) -> int:
    """Return how many last parts of two paths are equal."""
    pairs = list(zip(reversed(parts), reversed(wanted), strict=False))
    return next((number for number, (one, other) in enumerate(pairs) if one != other), len(pairs))
