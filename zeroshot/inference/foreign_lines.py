"""What other packages say while they work for us: kept from the reader, unless our log level is debug."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


def shows_foreign_lines() -> bool:
    """Whether the reader wants to see everything."""
    return logger.isEnabledFor(logging.DEBUG)


@contextmanager
def hide_foreign_lines(*names: str) -> Iterator[None]:
    """Hide warnings, and log lines below errors.

    Args:
        names: Loggers that have levels of their own; those that have none follow the root logger.
    """
    if shows_foreign_lines():
        yield
        return
    loggers = [logging.getLogger(), *map(logging.getLogger, names)]
    levels = [one.level for one in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in loggers:
            one.setLevel(max(one.level, logging.ERROR))
        try:
            yield
        finally:
            for one, level in zip(loggers, levels, strict=True):
                one.setLevel(level)
