"""The context that a step gets, and the JSON file that it writes as it goes."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARGIN = 4.0  # seconds before its limit in which a step begins nothing new
LONGEST = 6000  # number of last characters that are kept of an error or of output


@dataclass(frozen=True)
class Context:
    """The context of a step.

    Attributes:
        step, title: its name, and its name for people.
        function: ``module:function`` that carries it out.
        out, work: folder of the JSON files, and folder for all else, shared by the steps and deleted afterwards.
        device: cuda or cpu; on a CPU, sizes are tiny.
        limit, deadline: seconds it may take, and the end of these as ``time.time()`` counts.
        machine: facts about the machine, as ``gpu_steps.facts`` finds them.
    """

    step: str
    title: str
    function: str
    out: str
    work: str
    device: str
    limit: float
    deadline: float
    machine: dict[str, Any]

    @property
    def is_tiny(self) -> bool:
        return self.device == "cpu"

    def left(self) -> float:
        """Return the seconds in which something may still be begun."""
        return self.deadline - MARGIN - time.time()


class Record:
    """Rewrite a step's JSON file with each addition, so that a step that is killed leaves its results."""

    def __init__(self, file: Path, content: dict[str, Any]) -> None:
        self.file = file
        self.content = {"status": "running", "notes": {}, "results": [], "not reached": [], **content}
        self.save()

    @classmethod
    def begin(cls, context: Context) -> Record:
        header = {"step": context.step, "title": context.title, "device": context.device, "limit": context.limit}
        return cls(Path(context.out, f"{context.step}.json"), {**header, "machine": context.machine})

    def save(self) -> None:
        """Replace the file at once, so that a reader, or a kill, finds the whole old one or the whole new one."""
        write_json(self.file, self.content)

    def add(self, case: str, **result: Any) -> None:
        self.content["results"].append({"case": case, **result})
        self.save()

    def note(self, **notes: Any) -> None:
        self.content["notes"].update(notes)
        self.save()

    def skip(self, case: str) -> None:
        """Record that there was no time for a case."""
        self.content["not reached"].append(case)
        self.save()

    def attempt(self, context: Context, case: str, function: Callable[[], dict[str, Any]]) -> bool:
        """Add a function's result, or its traceback; return False if it failed or there was no time.

        Raises:
            RuntimeError: the GPU no longer works after the failure, so that further cases would be meaningless.
        """
        if context.left() <= 0:
            self.skip(case)
            return False
        try:
            self.add(case, **function())
        except Exception:
            self.add(case, error=traceback.format_exc()[-LONGEST:])
            if context.device == "cuda":
                _ask_the_gpu()
            return False
        return True


def write_json(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(json.dumps(content, indent=1, default=str))
    os.replace(new, file)


def _ask_the_gpu() -> None:
    """Raise if an earlier error of a kernel has broken the process; free the memory of the failed case."""
    import torch

    torch.cuda.synchronize()
    torch.cuda.empty_cache()
