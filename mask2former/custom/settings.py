"""Settings that were chosen, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode


@dataclass(frozen=True)
class Setting:
    """A configuration key, its value, and the reason for it."""

    key: str
    value: Any
    reason: str


class TrainingPlan:
    """Settings in the order in which they were chosen. The user's own settings override every rule.

    Args:
        cfg: configuration with the user's own settings merged in; changed in place.
        fixed: keys that a person has set.
    """

    def __init__(self, cfg: CfgNode, fixed: Mapping[str, Any]) -> None:
        self.cfg = cfg
        self.fixed = fixed
        self.settings: list[Setting] = []

    def choose(self, key: str, value: Any, reason: str) -> None:
        if key in self.fixed:
            value, reason = self[key], "set by you"
        else:
            self.cfg.merge_from_list([key, value])
        self.settings.append(Setting(key, value, reason))

    def __getitem__(self, key: str) -> Any:
        value: Any = self.cfg
        for part in key.split("."):
            value = value[part]
        return value
