"""Configuration files, optimiser, trainer."""

from mask2former.engine.config_file import load_config
from mask2former.engine.safe_yaml import ConfigError

__all__ = ["ConfigError", "load_config"]
