"""Conversion of weights of every known format in ``load_state_dict``.

``DetectionCheckpointer``, ``DefaultPredictor``, ``DefaultTrainer.resume_or_load`` and a plain ``model.load_state_dict``
all end there. With any of them, a model that called :func:`convert_on_load` on itself takes published names, Hugging
Face's and those of backbones, and refuses weights that leave a part of it without any (see
:mod:`mask2former.checkpoint.report`).
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from torch import nn

from mask2former.checkpoint.formats import CLASSIFIERS_OF_TIMM, UNKNOWN, to_ours
from mask2former.checkpoint.report import compare

logger = logging.getLogger(__name__)


def convert_on_load(module: nn.Module, place: str = "") -> None:
    """Let ``module.load_state_dict`` take weights of every format that :func:`to_ours` knows.

    It then raises ValueError if nothing fits, or in most cases if nothing fits a part of the model. Embeddings for
    another number of classes or queries than the model's are left out with a warning: they stay as initialised if
    loading is not strict, and are reported as missing if it is. PyTorch raises for any other shape that differs.

    Args:
        module: a whole model, or a part of one.
        place: prefix of ``module`` in the whole model, such as "sem_seg_head."; formats are recognised by whole names.
    """
    module.register_load_state_dict_pre_hook(functools.partial(_convert, place=place))


def check_images(module: nn.Module, format: str) -> None:
    """Let the model's timm backbone check the form of its images, if the weights are those of a timm classifier.

    Raises:
        ValueError: the weights were trained on images of another form.
    """
    check = getattr(getattr(module, "backbone", None), "check_images", None)
    if format in CLASSIFIERS_OF_TIMM and check is not None:
        check()


def _convert(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any, place: str) -> None:
    """Convert ``state`` in place, as PyTorch requires of such hooks.

    Args:
        module: the module that is loaded.
        state: weights; those for ``module`` begin with ``prefix``.
        prefix: prefix of ``module`` in the module on which ``load_state_dict`` was called.
        place: see :func:`convert_on_load`.
    """
    given = {name: place + name.removeprefix(prefix) for name in state if name.startswith(prefix)}
    if not given:
        return
    model = {place + name: value for name, value in module.state_dict().items()}
    format, ours = to_ours({whole: state[name] for name, whole in given.items()}, model)
    report = compare(format, ours, model)
    report.check()
    check_images(module, format)
    if format != UNKNOWN:
        logger.info(report.lines()[0])
    for line in report.resized_lines():
        logger.warning(line)
    for name in given:
        del state[name]
    left_out = {name for name, *_ in report.resized}
    state.update({prefix + name.removeprefix(place): ours[name] for name in ours if name not in left_out})
