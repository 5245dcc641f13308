"""What a comparison with a hub finds, and whom it asks."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from statesync.classes import frozen
from statesync.remote import Remote
from statesync.wire import Survey, SurveyAnswer


class SurveyRemote(Remote, Protocol):
    """A remote that can also be asked what the hub has."""

    def survey(self, request: Survey) -> SurveyAnswer:
        """Return tallies or records of one object. Raises ``RemoteError``."""


class Difference(StrEnum):
    """How a record differs, and so which side is behind."""

    NOT_DOWNLOADED = "not_downloaded"
    """The hub has a newer version than the device has read: the next sync brings it."""
    MISSING_HERE = "missing_here"
    """The device has read past it and does not have it."""
    MISSING_THERE = "missing_there"
    """The device has it, clean, and the hub has not, not even as deleted."""
    DELETED_THERE = "deleted_there"
    """The device has read past its delete and still has it."""
    DIVERGED = "diverged"
    """Both have it, the device has read past the hub's version, and they say different things."""


@frozen
class RecordDifference:
    """One record that differs; ``version`` is the hub's, None where it has none."""

    object: str
    key: str
    kind: Difference
    version: int | None


@frozen
class ObjectDiagnosis:
    """One object: how many records the hub is believed to have and has, what waits, and what differs.

    ``local_only`` is how many records are no business of the hub's, ``quarantined`` how many came down and
    are held back, because they do not fit their table. Neither are differences. ``parked`` is how many of
    those that are pending the hub has refused.
    """

    object: str
    here: int
    there: int
    pending: int
    differences: tuple[RecordDifference, ...]
    local_only: int = 0
    quarantined: int = 0
    parked: int = 0


@frozen
class Diagnosis:
    """The comparison of a scope. ``requests`` is how many it took."""

    objects: tuple[ObjectDiagnosis, ...]
    requests: int

    @property
    def differences(self) -> tuple[RecordDifference, ...]:
        """Everything that differs."""
        return tuple(difference for one in self.objects for difference in one.differences)

    def is_consistent(self) -> bool:
        """Tell whether nothing differs but for what the next sync brings anyway."""
        return all(one.kind is Difference.NOT_DOWNLOADED for one in self.differences)
