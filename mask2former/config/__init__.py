"""Configuration: this project's keys, reading files without running their code, and the command line."""

from mask2former.config.keys import add_maskformer2_config, add_maskformer2_video_config
from mask2former.config.load import config_path, load_config
from mask2former.config.safe_yaml import ConfigError

__all__ = ["ConfigError", "add_maskformer2_config", "add_maskformer2_video_config", "config_path", "load_config"]
