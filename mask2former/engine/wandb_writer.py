"""Write scalars to Weights & Biases, if switched on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, get_event_storage


def build_wandb_writers(cfg: CfgNode) -> list[EventWriter]:
    """Return one writer if ``WANDB.ENABLED``, else none.

    Raises:
        ImportError: the package is not installed.
    """
    if not cfg.WANDB.ENABLED:
        return []
    name = cfg.WANDB.NAME or Path(cfg.OUTPUT_DIR).resolve().name
    return [WandbWriter(project=cfg.WANDB.PROJECT, name=name, dir=cfg.OUTPUT_DIR, config=_plain(cfg))]


class WandbWriter(EventWriter):
    """Send the values added to Detectron2's event storage since the last call, each with its iteration.

    Args:
        run: keyword arguments of ``wandb.init``.
    """

    def __init__(self, **run: Any) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ImportError(
                "WANDB.ENABLED is true, but the package is not installed: pip install wandb, or set it to False."
            ) from error
        self._run = wandb.init(**run)
        self._last = -1

    def write(self) -> None:
        storage = get_event_storage()
        rows: dict[int, dict[str, float]] = {}
        for name, (value, iteration) in storage.latest_with_smoothing_hint(20).items():
            if iteration > self._last:
                rows.setdefault(iteration, {})[name] = value
        for iteration in sorted(rows):
            self._run.log(rows[iteration], step=iteration)
            self._last = iteration

    def close(self) -> None:
        self._run.finish()


def _plain(node: CfgNode) -> dict[str, Any]:
    return {key: _plain(value) if isinstance(value, CfgNode) else value for key, value in node.items()}
