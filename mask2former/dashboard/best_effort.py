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
        self._told: set[type[Exception]] = set()

    def __call__(self, action: Callable[Given, Made], *arguments: Given.args, **options: Given.kwargs) -> Made | None:
        """Return what ``action`` returns; None where it raised, which is logged once for each kind of error."""
        try:
            made = action(*arguments, **options)
        except Exception as error:  # whatever it is: the scores are worth more
            self.failure = f"{type(error).__name__}: {error}"
            if type(error) not in self._told:
                self._told.add(type(error))
                logger.debug("%s: traceback of its failure.", self.what, exc_info=True)
                self.warn(self.failure)
            return None
        self.failure = ""
        return made

    def warn(self, reason: str) -> None:
        """Say that it is left out, why, and what to do."""
        logger.warning(
            "%s: left out, for it failed (%s). Everything else goes on. %s The traceback is in log.txt.",
            self.what,
            reason.rstrip("."),
            self.remedy,
        )
