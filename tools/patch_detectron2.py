#!/usr/bin/env python3
"""Mend an installed Detectron2 0.6 for today's NumPy and Pillow, and for having no compiled code.

`make setup` runs this after it has installed Detectron2. For an installation of your own, run it with its Python, or
`mask2former doctor --install-detectron2`, which also installs it where it is missing.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # nothing may be installed yet
from mask2former_cli.patch_detectron2 import patch_installed


def main() -> None:
    try:
        print(patch_installed())
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
