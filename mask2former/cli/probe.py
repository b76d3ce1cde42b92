"""Run a small model of random weights on each device that is here; ``mask2former doctor`` starts it.

Its last line is json: ``devices`` that it ran on, ``gpu`` (name or None), ``cuda`` (torch's version of it or None), and
``operators``, for each device what is ``compiled`` (or None) and a ``hint`` where nothing is.
"""

from __future__ import annotations

import json

import torch
from detectron2.modeling import build_model

from mask2former.config import load_config
from mask2former.ops import library

SMALL = [
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", "32", "MODEL.SEM_SEG_HEAD.MASK_DIM", "32"),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", "1", "MODEL.MASK_FORMER.HIDDEN_DIM", "32"),
    *("MODEL.MASK_FORMER.DEC_LAYERS", "2", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "10"),
]


def main() -> None:
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    operators: dict[str, dict[str, str | None]] = {}
    for device in devices:
        model = build_model(load_config("quickstart/panoptic", [*SMALL, "MODEL.DEVICE", device])).eval()
        with torch.no_grad():
            (result,) = model([{"image": torch.zeros(3, 64, 64, dtype=torch.uint8)}])
        if not {"panoptic_seg", "instances", "sem_seg"} <= result.keys():
            raise RuntimeError(f"A panoptic model gave {sorted(result)} on {device}.")
        if library.is_loaded(device):
            instructions = f", {library.cpu_instructions()}" if device == "cpu" else ""
            operators[device] = {"compiled": f"{library.LIBRARIES[device].name}{instructions}", "hint": ""}
        else:
            operators[device] = {"compiled": None, "hint": library.how_to_speed_up(device)}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    facts = {"devices": devices, "gpu": gpu, "cuda": torch.version.cuda, "operators": operators}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
