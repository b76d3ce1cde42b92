"""YAML files with bases, read without running code, in bounded time and memory.

Published configuration files hold lists of sizes, ``!!python/object/apply:eval ["[int(x * 0.1 * 640) for x in range(5,
21)]"]``. PyYAML can only refuse them or run any code; here this one form is computed.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Any

import yaml
from detectron2.utils.file_io import PathManager

logger = logging.getLogger(__name__)

BASE_KEY = "_BASE_"
EVAL_TAG = "tag:yaml.org,2002:python/object/apply:eval"
SIZES = re.compile(r"\s*\[int\(x \* (\d{1,3}(?:\.\d{1,6})?) \* (\d{1,6})\) for x in range\((\d{1,3}), (\d{1,3})\)\]\s*")
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
# Limits far above any configuration, against files from strangers.
MOST_CHARACTERS = 1_000_000
MOST_WRITTEN = 10_000  # values as the file writes them; PyYAML takes some 0.1 ms for each
MOST_LEVELS = 100
MOST_VALUES = 20_000  # aliases and merged keys counted wherever they are used
MOST_DIGITS = 100  # of a number; long ones in YAML's base 60 (1:30:00) take hours
MOST_FILES = 100


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the file or the option, and what to do."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with the one python tag that the published files use, and limits while it reads."""

    written = level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Count values and their levels, as PyYAML takes longest for reading, before anything is built."""
        self.written, self.level = self.written + 1, self.level + 1
        if self.written > MOST_WRITTEN or self.level > MOST_LEVELS:
            limit = f"{MOST_LEVELS} levels" if self.level > MOST_LEVELS else f"{MOST_WRITTEN:,} values"
            raise ConfigError(f"{self.name}, line {self.line + 1}: more than {limit}, too many for a configuration.")
        node = super().compose_node(parent, index)
        self.level -= 1
        return node


def _construct_eval(loader: _Loader, node: yaml.Node) -> list[int]:
    match node:
        case yaml.SequenceNode(value=[yaml.ScalarNode(value=str() as text, tag="tag:yaml.org,2002:str")]):
            pass
        case _:
            raise ConfigError(f'{_place(node.start_mark)}: eval takes a list of one string, as in ["[1, 2]"].')
    sizes = SIZES.fullmatch(text)
    if sizes is None:
        raise ConfigError(
            f"{_place(node.start_mark)}: refused to evaluate {text[:80]!r}: no code is run. Lists of sizes are "
            "understood in the form [int(x * 0.1 * 640) for x in range(5, 21)]; for anything else write the value "
            "itself, as in KEY: [320, 384, 448]."
        )
    factor, size, first, end = float(sizes[1]), *map(int, sizes.group(2, 3, 4))
    return [int(x * factor * size) for x in range(first, end)]


_Loader.add_constructor(EVAL_TAG, _construct_eval)


def read_with_bases(path: str, allow_unsafe: bool = False) -> dict[str, Any]:
    """Read the YAML file ``path``, merged into the files that its key ``_BASE_`` names.

    ``_BASE_`` is a path or a list of them, relative to the file itself unless absolute; ``~`` is the home folder. Later
    files override earlier ones: mappings are merged key by key, and any other value is replaced.

    Args:
        path: anything that Detectron2's path manager opens.
        allow_unsafe: run code in tags and fetch URLs in ``_BASE_``, which are refused otherwise. Only for files that
            you trust.

    Raises:
        ConfigError: not YAML, not a mapping, code in it, larger than any configuration, or a base that does not exist
            or leads back to itself.
    """
    return _read(path, allow_unsafe, (), [])


def _read(path: str, allow_unsafe: bool, within: tuple[str, ...], read: list[str]) -> dict[str, Any]:
    read.append(path)
    if len(read) > MOST_FILES:
        raise ConfigError(f"{path}: the {BASE_KEY} keys of these files name more than {MOST_FILES} files.")
    if path in within:
        raise ConfigError(f"{path}: its {BASE_KEY} leads back to itself: {' -> '.join((*within, path))}.")
    content = _read_one(path, allow_unsafe)
    bases = content.pop(BASE_KEY, [])
    if not isinstance(bases, list):
        bases = [bases]
    result: dict[str, Any] = {}
    for base in bases:
        if not isinstance(base, str):
            raise ConfigError(f"{path}: its {BASE_KEY} has to be a path or a list of paths; found {base!r}.")
        base_path = _resolve(base, path)
        if "://" in base_path and not allow_unsafe:
            raise ConfigError(
                f"{path}: its {BASE_KEY} is the address {base_path}. Download that file and name its path here, or, if "
                "you trust both, give --allow-unsafe-config."
            )
        try:
            _merge(_read(base_path, allow_unsafe, (*within, path), read), result, path)
        except FileNotFoundError as error:
            raise ConfigError(f"{path}: its {BASE_KEY} names {base_path}, which does not exist.") from error
        except OSError as error:
            raise ConfigError(f"{path}: its {BASE_KEY} names {base_path}, which cannot be read ({error}).") from error
    _merge(content, result, path)
    return result


def _read_one(path: str, allow_unsafe: bool) -> dict[str, Any]:
    try:
        content = _read_safely(path)
    except ConfigError:
        if not allow_unsafe:
            raise
        content = _read_unsafely(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: a configuration is a mapping, KEY: value; this file holds a {type(content).__name__}."
        )
    return content


def _read_safely(path: str) -> Any:
    try:
        with PathManager.open(path, "r") as file:
            text = file.read(MOST_CHARACTERS + 1)
        if len(text) > MOST_CHARACTERS:
            raise ConfigError(f"{path}: longer than {MOST_CHARACTERS:,} characters, too long for a configuration.")
        loader = _Loader(text)
        loader.name = path
        node = loader.get_single_node()
        if node is None:
            return None
        _require_small(node)
        return loader.construct_document(node)
    except yaml.constructor.ConstructorError as error:
        raise ConfigError(_refusal(error, path)) from error
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{_place(error.problem_mark, path)}: not valid YAML: {error.problem}.") from error
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # dates such as 2001-99-99
        raise ConfigError(f"{path}: not valid YAML: {error}.") from error


def _require_small(node: yaml.Node) -> None:
    """Refuse content that takes long to construct or copy: values that aliases repeat, and numbers of many digits."""
    waiting, values = [node], 0
    while waiting:
        node, values = waiting.pop(), values + 1
        if values > MOST_VALUES:
            raise ConfigError(
                f"{_place(node.start_mark)}: more than {MOST_VALUES:,} values, counting those of aliases."
            )
        if isinstance(node, yaml.ScalarNode):
            if node.tag in NUMBERS and len(node.value) > MOST_DIGITS:
                raise ConfigError(f"{_place(node.start_mark)}: a number of more than {MOST_DIGITS} digits.")
        elif isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        else:
            waiting += node.value


def _read_unsafely(path: str) -> Any:
    logger.warning("%s may run code while it is read, because unsafe configurations are allowed.", path)
    try:
        with PathManager.open(path, "r") as file:
            return yaml.unsafe_load(file)
    except Exception as error:  # the file's code may fail in any way
        raise ConfigError(f"{path}: not valid YAML, or the code in it fails: {error}") from error


def _refusal(error: yaml.constructor.ConstructorError, path: str) -> str:
    place = _place(error.problem_mark, path)
    if "python/" not in str(error.problem):
        return f"{place}: not valid YAML: {error.problem}."
    return (
        f"{place}: {error.problem}. Tags that begin with !!python run code while the file is read, so they are "
        "refused. Write the value itself instead of the code that computes it, or, for a file that you trust, give "
        "--allow-unsafe-config."
    )


def _place(mark: yaml.Mark | None, path: str = "") -> str:
    return f"{mark.name}, line {mark.line + 1}" if mark else path


def _resolve(base: str, path: str) -> str:
    base = os.path.expanduser(base)
    if base.startswith("/") or "://" in base:
        return base
    return os.path.normpath(os.path.join(os.path.dirname(path), base))


def _merge(new: dict[str, Any], into: dict[str, Any], path: str) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and key in into:
            if not isinstance(into[key], dict):
                raise ConfigError(f"{path}: {key} has keys here, but its {BASE_KEY} gives it the value {into[key]!r}.")
            _merge(value, into[key], path)
        else:
            into[key] = value
