"""``python -m mask2former.ops`` prints which operators are compiled here, and how to get the others."""

from __future__ import annotations

import platform

import torch

from mask2former.ops import library

DTYPES = {
    "cpu": "float32, float64; bfloat16 and float16 are computed in float32",
    "cuda": "float32, float64, bfloat16, float16; half formats are summed in float32",
}


def main() -> None:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, GPU: {gpu}")
    for device, dtypes in DTYPES.items():
        if not library.is_loaded(device):
            print(f"{device:>5}: plain PyTorch, any floating point dtype. {library.how_to_speed_up(device)}")
            continue
        instructions = f", {library.cpu_instructions()}" if device == "cpu" else ""
        print(f"{device:>5}: compiled operator{instructions} ({dtypes}), {library.LIBRARIES[device]}")
    print("other: plain PyTorch")


if __name__ == "__main__":
    main()
