#!/usr/bin/env python3
"""Draw the quickstart data set, as ``mask2former quickstart`` does at first. ``--help`` shows how."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # it needs no installed package

from mask2former_shapes.draw import main

if __name__ == "__main__":
    main()
