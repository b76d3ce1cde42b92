"""Choose between fast scoring (hotcoco, if it is installed) and the official code."""

import functools
import logging
from types import ModuleType

logger = logging.getLogger(__name__)


@functools.cache
def hotcoco() -> ModuleType | None:
    """Return hotcoco (MIT licence), which computes the official numbers in a fraction of the time; None without it.

    The choice is logged once.
    """
    try:
        import hotcoco as module
    except ImportError as error:
        logger.info("AP is computed by pycocotools; hotcoco would be faster (%s).", error)
        return None
    logger.info("AP is computed by hotcoco %s.", getattr(module, "__version__", ""))
    return module
