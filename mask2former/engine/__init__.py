"""Configuration files, optimiser, trainer."""

from mask2former.engine.config_file import ConfigError, load_config

__all__ = ["ConfigError", "load_config"]
