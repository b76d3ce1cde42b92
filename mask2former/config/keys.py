"""Configuration keys that this project adds to Detectron2's, with their units and meanings.

Names and defaults are those of the published Mask2Former, so that YAML files written for it keep working. Its defaults
still suit MaskFormer (v1); the files below ``configs/_base_`` set what Mask2Former uses.
"""

from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg

from mask2former.config.classifier import add_classifier_keys
from mask2former.config.evaluation_keys import add_evaluation_keys, add_wandb_keys
from mask2former.config.input_keys import add_clip_keys, add_input_keys
from mask2former.config.kmax import add_kmax_config
from mask2former.config.max_deeplab import add_max_deeplab_config
from mask2former.config.model_keys import add_backbone_keys, add_guided_keys, add_head_keys, add_mask_former_keys
from mask2former.config.pq import add_pq_config
from mask2former.config.solver_keys import add_solver_keys


def add_maskformer2_config(cfg: CN) -> None:
    """Add all keys to ``cfg`` (the result of ``detectron2.config.get_cfg()``), in place.

    Existing keys keep their values, so other projects' keys (``add_deeplab_config``) may be added before or after, and
    these may be added twice.
    """
    defaults = get_cfg()
    for add in (
        add_input_keys,
        add_clip_keys,
        add_solver_keys,
        add_head_keys,
        add_mask_former_keys,
        add_backbone_keys,
        add_kmax_config,
        add_max_deeplab_config,
        add_pq_config,
        add_classifier_keys,
        add_guided_keys,
        add_evaluation_keys,
        add_wandb_keys,
    ):
        add(defaults)
    _add_missing(cfg, defaults)


def add_maskformer2_video_config(cfg: CN) -> None:
    """Add the published keys of clips to ``cfg``, in place; :func:`add_maskformer2_config` has added them already."""
    defaults = get_cfg()
    add_clip_keys(defaults)
    _add_missing(cfg, defaults)


def _add_missing(cfg: CN, defaults: CN) -> None:
    for key, value in defaults.items():
        if key not in cfg:
            cfg[key] = value
        elif isinstance(value, CN) and isinstance(cfg[key], CN):
            _add_missing(cfg[key], value)
