"""This project's configurations by name, in a checkout and in an installed package."""

from __future__ import annotations

from pathlib import Path, PurePath

_PACKAGE = Path(__file__).parents[1]
_BESIDE = _PACKAGE.parent / "configs"
CONFIGS = _BESIDE if (_BESIDE / "_base_").is_dir() else _PACKAGE / "configs"
"""The folder of all configurations: the checkout's, or the one that is installed inside the package."""


def find_config(name: str) -> Path | None:
    """Return the file of a configuration of this project; None if there is none of that name.

    Args:
        name: such as ``coco/panoptic/r50``. ``configs`` before it and ``.yaml`` after it are understood too, so that
            what is written for a checkout holds where the package is installed.
    """
    path = PurePath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return None
    parts = path.parts[1:] if path.parts[0] == "configs" else path.parts
    file = CONFIGS.joinpath(*parts)
    if file.suffix != ".yaml":
        file = file.with_name(f"{file.name}.yaml")
    return file if file.is_file() else None


def config_names() -> list[str]:
    """Return the names of all configurations of this project, without the parts that they are made of."""
    files = (path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml"))
    return sorted(path.with_suffix("").as_posix() for path in files if "_base_" not in path.parts)
