"""Run optional work, such as writing pages: a failure is logged, and scores and training go on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

logger = logging.getLogger(__name__)
Given = ParamSpec("Given")
Made = TypeVar("Made")


class BestEffort:
    """Run calls that may fail.

    Args:
        what: name of what the calls make, for the log.
        remedy: what the user can do if they fail.

    Attributes:
        failure: why the last call failed; "" if it did not.
    """

    def __init__(self, what: str, remedy: str) -> None:
        self.what = what
        self.remedy = remedy
        self.failure = ""
        self._told: set[type[Exception]] = set()

    def __call__(self, action: Callable[Given, Made], *arguments: Given.args, **options: Given.kwargs) -> Made | None:
        """Return what ``action`` returns, or None if it raised, which is logged once for each class of error."""
        try:
            made = action(*arguments, **options)
        except Exception as error:  # any error at all: the scores are worth more than the page
            self.failure = f"{type(error).__name__}: {error}"
            if type(error) not in self._told:
                self._told.add(type(error))
                logger.debug("%s: traceback of its failure.", self.what, exc_info=True)
                self.warn(self.failure)
            return None
        self.failure = ""
        return made

    def warn(self, reason: str) -> None:
        """Log that ``what`` is left out, why, and what to do."""
        logger.warning(
            "%s: left out, because it failed (%s). Everything else goes on. %s The traceback is in log.txt.",
            self.what,
            reason.rstrip("."),
            self.remedy,
        )
