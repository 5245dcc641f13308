"""A client's receipt: what its last batch was answered, without a record in it, and what it was about.

A repeat of the batch is answered from it. Of a conflict it knows that there was one, and not what the hub
had: that may have been much, and may be another record by now. So the device offers the change again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from statesync.hub.access.rights import Right, Rights
from statesync.hub.errors import forbidden, not_a_repeat
from statesync.wire import Conflicted, Push, PushAnswer, Rejected, Verdict

_AGAIN = Rejected(
    "conflict", "somebody else has written this record since; offer the change again", retry_after=0.0
)
"""What a device is told instead that knows no conflicts without their record: it waits no time, and offers
the change again."""


class _Answer(msgspec.Struct, frozen=True):
    """A ``PushAnswer`` whose verdicts are JSON already."""

    hub: str
    epoch: str
    head: int
    results: msgspec.Raw


class _Written(_Answer, frozen=True):
    objects: list[str]


class _Receipt(msgspec.Struct, frozen=True):
    """What is kept of an answer.

    ``objects`` are those of the changes that were judged by what is stored. None: an older version has kept
    the receipt, and it is not known. Its conflicts may still have their records.
    """

    hub: str
    epoch: str
    head: int
    results: list[Verdict]
    objects: list[str] | None = None


_RECEIPT = msgspec.json.Decoder(_Receipt)


def answer_and_receipt(
    hub: str, epoch: str, head: int, verdicts: Sequence[Verdict], objects: Iterable[str], *, carried: bool
) -> tuple[str, str]:
    """Return the text of a batch's answer, and that of its receipt.

    ``objects`` are what the batch was about, and ``carried`` says that some verdicts carry records.
    """
    told = kept = msgspec.Raw(msgspec.json.encode(verdicts))
    if carried:
        kept = msgspec.Raw(msgspec.json.encode([without_record(verdict) for verdict in verdicts]))
    answer = _Answer(hub, epoch, head, told)
    receipt = _Written(hub, epoch, head, kept, sorted(objects))
    return msgspec.json.encode(answer).decode(), msgspec.json.encode(receipt).decode()


def answer_again(receipt: str, request: Push, claimed: Sequence[str], rights: Rights) -> str:
    """Return the text of what a repeated batch is answered, whose changes are of the objects ``claimed``.

    Raises the 403 unless the sender may write or read each object that the batch was about, whatever objects
    are claimed now. Who may read has its records anyway, and a device that may not write any more has to
    hear what became of its batch: else it is taken for a copy of itself, and its later changes are in
    conflict with its own. Of a receipt that does not say its objects nothing but the claim is known: it is
    for who may write them. Raises the 400 for a batch that has not as many changes: verdicts on others would
    be taken for those on its own.
    """
    kept = _RECEIPT.decode(receipt)
    unheard = rights.lacking(Right.WRITE, claimed if kept.objects is None else kept.objects)
    if kept.objects is not None:
        unheard = rights.lacking(Right.READ, unheard)
    if unheard:
        raise forbidden("the token does not allow to write all that this batch was about")
    if len(claimed) != len(kept.results):
        raise not_a_repeat(len(kept.results), len(claimed))
    results = [_repeated(without_record(verdict), request) for verdict in kept.results]
    return msgspec.json.encode(PushAnswer(kept.hub, kept.epoch, kept.head, results)).decode()


def without_record(verdict: Verdict) -> Verdict:
    """Return a verdict without the record that it carries, if it does."""
    if isinstance(verdict, Conflicted) and verdict.data is not msgspec.UNSET:
        return Conflicted(verdict.version)
    return verdict


def _repeated(verdict: Verdict, request: Push) -> Verdict:
    if isinstance(verdict, Conflicted) and verdict.lacks_record and not request.offers_again:
        return _AGAIN
    return verdict
