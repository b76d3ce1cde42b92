"""Pages are good to have and never worth a run: what fails here is told, and scores and training go on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

logger = logging.getLogger(__name__)
Given = ParamSpec("Given")
Made = TypeVar("Made")


class BestEffort:
    """Calls that may fail.

    Args:
        what: is made by them, for the log.
        remedy: what a person can do when they fail.

    Attributes:
        failure: why the last call failed; "" where it did not.
    """

    def __init__(self, what: str, remedy: str) -> None:
        self.what = what
        self.remedy = remedy
        self.failure = ""
        self._told: set[str] = set()

    def __call__(self, action: Callable[Given, Made], *arguments: Given.args, **options: Given.kwargs) -> Made | None:
        """Return what ``action`` returns; None where it raised, which is logged once for each reason."""
        try:
            made = action(*arguments, **options)
        except Exception as error:  # whatever it is: the scores are worth more
            self.failure = f"{type(error).__name__}: {error}"
            logger.debug("Traceback of what follows:", exc_info=True)
            self.warn(self.failure)
            return None
        self.failure = ""
        return made

    def warn(self, reason: str) -> None:
        """Say once that it is left out for this reason."""
        if reason not in self._told:
            self._told.add(reason)
            logger.warning(
                "%s: left out, for it failed (%s). Everything else goes on. %s The traceback is in log.txt.",
                self.what,
                reason.rstrip("."),
                self.remedy,
            )
