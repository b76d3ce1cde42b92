"""Carry out one step in a process of its own: ``python -m gpu_steps.run_step CONTEXT.json``."""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
from pathlib import Path

from gpu_steps.record import LONGEST, Context, Record


def main(file: str) -> int:
    context = Context(**json.loads(Path(file).read_text()))
    record = Record.begin(context)
    started = time.perf_counter()
    module, function = context.function.split(":")
    try:
        getattr(importlib.import_module(module), function)(context, record)
        record.content["status"] = "done"
    except BaseException:  # a library's SystemExit is a failure too; the process ends here anyway
        record.content.update(status="failed", error=traceback.format_exc()[-LONGEST:])
    record.content["seconds"] = time.perf_counter() - started
    record.save()
    return 0 if record.content["status"] == "done" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
