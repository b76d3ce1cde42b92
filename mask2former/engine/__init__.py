"""Training: the trainer and its parts. Configuration files are read by :mod:`mask2former.config`."""

from mask2former.config import ConfigError, load_config
from mask2former.engine.trainer import Trainer

__all__ = ["ConfigError", "Trainer", "load_config"]
