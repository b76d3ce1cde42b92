"""The choice between fast scoring (hotcoco, where it is installed) and the official code."""

import functools
import logging
from types import ModuleType

logger = logging.getLogger(__name__)


@functools.cache
def hotcoco() -> ModuleType | None:
    """hotcoco (MIT licence), which gives the official numbers in a fraction of the time; None where there is none.

    Said once in the log.
    """
    try:
        import hotcoco as module
    except ImportError as error:
        logger.info("AP by pycocotools; hotcoco would be faster (%s).", error)
        return None
    logger.info("AP by hotcoco %s.", getattr(module, "__version__", ""))
    return module
