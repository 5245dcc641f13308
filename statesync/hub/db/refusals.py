"""What goes wrong in a transaction, as what a device is told of it."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

from statesync.hub.db.failures import Warnings, failure_of
from statesync.hub.db.pool import TooManyConnections
from statesync.hub.errors import Refused, busy, not_applied
from statesync.hub.limits import NoMemory

_log = logging.getLogger(__name__)
_warnings = Warnings()


@contextmanager
def defects_as_refusals() -> Generator[None]:
    """Turn a defect into the refusal ``not_applied``; what was done until then has to be rolled back."""
    try:
        yield
    except Exception as error:  # a defect may be anything; the device has to know that nothing was applied
        if isinstance(error, (Refused, NoMemory, TooManyConnections)) or failure_of(error) is not None:
            raise
        _log.exception("the hub failed on a batch, and applied nothing of it")
        raise not_applied() from error


@contextmanager
def failures_as_refusals() -> Generator[None]:
    """Turn what a database fails by into its refusal; the transaction has been rolled back."""
    try:
        yield
    except TooManyConnections as error:
        raise busy("the hub has too many requests under way") from error
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        _warnings.warn(f"the database {failure.words}", error)
        raise failure.refusal() from error
