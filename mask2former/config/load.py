"""Loading of configuration files, with errors that say what to change."""

import difflib
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode, downgrade_config, get_cfg, upgrade_config
from detectron2.config.compat import guess_version

from mask2former.config.keys import add_maskformer2_config
from mask2former.config.kmax import in_house_keys, with_aliases
from mask2former.config.names import config_names, find_config
from mask2former.config.safe_yaml import ConfigError, read_with_bases

_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")
# What yacs says of a value of the wrong type.
_MISMATCH = re.compile(
    r"Type mismatch \(<class '(.*?)'> vs\. <class '(.*?)'>\) with values \((.*?) vs\. (.*)\) for config key: (\S+)",
    re.S,
)
_KINDS = {"list": "a list", "tuple": "a list", "int": "a whole number", "float": "a number", "bool": "True or False"}
_KINDS |= {"str": "text", "CfgNode": "a group of keys", "dict": "a group of keys", "NoneType": "nothing"}
logger = logging.getLogger(__name__)


def load_config(config_file: str | None = None, opts: Sequence[str] = (), allow_unsafe: bool = False) -> CfgNode:
    """Merge Detectron2's defaults, this project's, ``config_file`` with its bases, and ``opts``, in this order.

    ``MODEL.DEVICE`` becomes ``cpu``, with one logged line, if it is a GPU and PyTorch sees none.

    Args:
        config_file: a YAML file, or else the name of a configuration of this project (``coco/panoptic/r50``); None or
            "" for the defaults alone.
        opts: ``["KEY", "value", ...]`` as on a command line.
        allow_unsafe: let the file run code (YAML tags that begin with ``!!python``). Only for files that you trust; the
            lists of sizes in ``!!python/object/apply:eval`` of published files are understood without it.

    Raises:
        ConfigError: no such file, not YAML, an unknown key, a value of the wrong type, or code in the file.
    """
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    if config_file:
        _merge_file(cfg, config_file, allow_unsafe)
    merge_options(cfg, list(opts))
    choose_device(cfg)
    return cfg


def config_path(config_file: str) -> str:
    """Return the path of a YAML file, or of this project's configuration of that name. A file takes precedence.

    Raises:
        ConfigError: there is neither.
    """
    if Path(config_file).is_file():
        return config_file
    if (found := find_config(config_file)) is not None:
        return str(found)
    raise ConfigError(f"{config_file}: no such configuration file, nor name of one.{_like_named(Path(config_file))}")


def _merge_file(cfg: CfgNode, config_file: str, allow_unsafe: bool) -> None:
    config_file = config_path(config_file)
    content = in_house_keys(read_with_bases(config_file, allow_unsafe))
    try:
        _merge_version(cfg, CfgNode(content), config_file)
    except (KeyError, ValueError, AssertionError, TypeError) as error:
        raise ConfigError(f"{config_file} (or a file in its _BASE_): {_explain(error, cfg)}") from error


def _merge_version(cfg: CfgNode, loaded: CfgNode, config_file: str) -> None:
    """Merge in place, after upgrading files of Detectron2's version 1, whose keys had other names."""
    version = loaded.get("VERSION", None)
    if version is None:
        version = guess_version(loaded, config_file)
    if version == cfg.VERSION:
        cfg.merge_from_other_cfg(loaded)
        return
    if not isinstance(version, int) or not 0 < version < cfg.VERSION:
        raise ValueError(f"VERSION {version} is not one of Detectron2's, 1 to {cfg.VERSION}.")
    old = downgrade_config(cfg, to_version=version)
    old.merge_from_other_cfg(loaded)
    new = upgrade_config(old)
    cfg.clear()
    cfg.update(new)


def merge_options(cfg: CfgNode, opts: list[str]) -> None:
    """Merge ``["KEY", "value", ...]`` into ``cfg``, which is changed.

    Raises:
        ConfigError: they are no pairs, or a key or a value's type is not the configuration's.
    """
    if len(opts) % 2:
        flags = [option for option in map(str, opts) if option.startswith("--")]
        hint = f" Flags such as {flags[0]} go before the first KEY." if flags else ""
        if alone := [word for word in map(str, opts) if not _KEY.fullmatch(word)][:1]:
            hint = (
                hint
                or f" {alone[0]} is no KEY: if it is a model or a configuration, it follows --model or --config-file."
            )
        raise ConfigError(
            f"Options after the flags are pairs, KEY value KEY value; found {' '.join(map(str, opts))!r}.{hint}"
        )
    try:
        cfg.merge_from_list(with_aliases(opts))
    except (KeyError, ValueError, AssertionError, TypeError) as error:
        raise ConfigError(f"Options {' '.join(map(str, opts))!r}: {_explain(error, cfg)}") from error


def _explain(error: Exception, cfg: CfgNode) -> str:
    text = str(error.args[0]) if error.args else repr(error)
    if wrong := _MISMATCH.match(text):
        *kinds, was, value, key = wrong.groups()
        wanted, found = (_KINDS.get(name.rpartition(".")[2], name) for name in kinds)
        such = f", such as {was or repr(was)}" if wanted != "a group of keys" else ""
        quotes = " Names in a list have quotes: \"['A', 'B']\"." if (wanted, found) == ("a list", "text") else ""
        return f"{key} is {wanted}{such}; found {found}, {value or repr(value)}.{quotes}"
    unknown = re.match(r"Non-existent (?:config )?key: (\S+)", text)
    if not unknown:
        return text
    close = difflib.get_close_matches(unknown[1], list(_keys(cfg)), n=1, cutoff=0.5)
    return f"unknown key {unknown[1]}." + (f" Did you mean {close[0]}?" if close else "")


def _keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield prefix + name
        if isinstance(value, CfgNode):
            yield from _keys(value, f"{prefix}{name}.")


def _like_named(path: Path) -> str:
    beside = sorted(str(other) for other in path.parent.glob("*.yaml"))
    close = difflib.get_close_matches(str(path), beside or config_names(), n=1, cutoff=0.5)
    return f" Did you mean {close[0]}?" if close else ""


def choose_device(cfg: CfgNode) -> None:
    """Make ``MODEL.DEVICE`` ``cpu``, with a logged line, if it is a GPU and PyTorch sees none. Changes ``cfg``.

    Raises:
        ConfigError: it is no device, or a GPU beyond those that there are.
    """
    try:
        device = torch.device(cfg.MODEL.DEVICE)
    except RuntimeError as error:
        raise ConfigError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}; give cpu, cuda, or a GPU such as cuda:1.") from error
    if device.type == "cuda" and 0 < torch.cuda.device_count() <= (device.index or 0):
        count = torch.cuda.device_count()
        raise ConfigError(f"MODEL.DEVICE is {device}, but PyTorch sees {count}, the last of which is cuda:{count - 1}.")
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.warning("MODEL.DEVICE is %s but PyTorch sees no GPU: running on the CPU.", cfg.MODEL.DEVICE)
        cfg.MODEL.DEVICE = "cpu"
