"""Put the results of a marked part back into the whole image."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from mask2former.region.crop import Region

VOID = -1  # label of pixels without a class


def paste(results: dict[str, Any], region: Region) -> dict[str, Any]:
    """Return results of the whole image's size.

    Args:
        results: those of the rectangle: ``sem_seg`` scores [K, h, w], ``sem_seg_labels`` [h, w], ``panoptic_seg`` (ids
            [h, w], segments) and ``instances`` with ``pred_masks``, or some of them.

    Returns:
        The same, [H, W]. Unmarked pixels have scores of 0, the label ``VOID``, the segment 0 and no object. Segments
        and objects without a marked pixel are left out.

    Raises:
        ValueError: a kind of result that cannot be put back.
    """
    pasted: dict[str, Any] = {}
    for name, value in results.items():
        if name in ("sem_seg", "sem_seg_labels"):
            pasted[name] = _map(value, region, VOID if name == "sem_seg_labels" or value.dim() == 2 else 0)
        elif name == "panoptic_seg":
            ids = _map(value[0], region, 0)
            left = set(ids.unique().tolist())
            pasted[name] = (ids, [segment for segment in value[1] if segment["id"] in left])
        elif name == "instances":
            pasted[name] = _instances(value, region)
        else:
            raise ValueError(f"A region of interest gives semantic, panoptic and instance results, not {name!r}.")
    return pasted


def _map(values: Tensor, region: Region, void: int) -> Tensor:
    whole = values.new_full((*values.shape[:-2], *region.mask.shape), void)
    whole[..., region.rows, region.columns] = values
    return whole.masked_fill_(~region.mask.to(values.device), void)


def _instances(found: Instances, region: Region) -> Instances:
    masks = _map(found.pred_masks, region, 0)
    seen = masks.flatten(1).any(1)
    result = Instances(tuple(region.mask.shape))
    for name, value in found.get_fields().items():
        result.set(name, value[seen.to(value.device) if isinstance(value, Tensor) else seen.cpu()])
    result.pred_masks = masks[seen]
    result.pred_boxes = Boxes(_boxes(result.pred_masks != 0))
    return result


def _boxes(masks: Tensor) -> Tensor:
    """Return boxes [n, 4] float32 (x0, y0, x1, y1) around masks [n, H, W], of which none is empty."""
    boxes = torch.zeros(len(masks), 4, device=masks.device)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = (mask.any(axis).nonzero().flatten() for axis in (1, 0))
        box[:] = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return boxes
