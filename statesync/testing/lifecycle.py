"""A stateful Hypothesis test of the lifecycle: any trigger, in any order, with any facts.

The whole of it, in a test module::

    from statesync.testing import lifecycle_machine

    TestLifecycle = lifecycle_machine().TestCase

Subclass what ``lifecycle_machine`` returns to add rules and invariants of your own: ``machine`` is the
session machine, ``journal`` the moves that were written, ``reference`` where both ought to stand.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from statesync.errors import GuardRefused, IllegalTransition
from statesync.lifecycle import (
    BATCH,
    SESSION,
    AnyTrigger,
    BatchPhase,
    BatchTrigger,
    Facts,
    Phase,
    Trigger,
    batch_after,
)
from statesync.machine import Commit, Move, SessionMachine
from statesync.testing.reference import Answer, Reference


class Machine(Protocol):
    """What is tested: ``statesync.machine.SessionMachine``, or something that does the same."""

    @property
    def phase(self) -> Phase:
        """The session's phase."""

    @property
    def batch(self) -> BatchPhase | None:
        """The open batch's phase, None when no batch is open."""

    def fire(self, *triggers: AnyTrigger, facts: Facts, commit: Commit) -> tuple[Move, ...]:
        """Fire triggers as one transaction; see ``SessionMachine.fire``."""


class PowerCut(Exception):
    """The journal could not be written."""


TRIGGERS: st.SearchStrategy[AnyTrigger] = st.sampled_from([*Trigger, *BatchTrigger])
"""Any trigger of both charts."""

FACTS = st.builds(
    Facts,
    request_ended=st.booleans(),
    deadline_passed=st.booleans(),
    outbox_drained=st.booleans(),
    feed_drained=st.booleans(),
    in_doubt=st.booleans(),
    retryable=st.booleans(),
    attempts_left=st.booleans(),
)
"""Any facts; where the machine stands itself, it knows."""

KIND = Facts(request_ended=True, outbox_drained=True, feed_drained=True, retryable=True, attempts_left=True)
"""Facts with which everything that is legal goes on."""


_ENDING = frozenset(
    {Trigger.CANCEL, Trigger.FAIL, Trigger.ABORT_BATCH, BatchTrigger.COMMIT, BatchTrigger.ABORT}
)


class LifecycleMachine(RuleBasedStateMachine):
    """See the module. ``make`` returns a new machine to test; ``lifecycle_machine`` sets it."""

    make: Callable[[], Machine] = SessionMachine

    def __init__(self) -> None:
        super().__init__()
        self.machine: Machine = type(self).make()
        self.reference: Reference = Reference()
        self.journal: list[Move] = []

    @rule(trigger=TRIGGERS, facts=FACTS)
    def fire(self, trigger: AnyTrigger, facts: Facts) -> None:
        """Fire one trigger, legal or not."""
        self.fire_all((trigger,), facts)

    @rule(triggers=st.lists(TRIGGERS, min_size=2, max_size=4), facts=FACTS)
    def fire_together(self, triggers: list[AnyTrigger], facts: Facts) -> None:
        """Fire several triggers as one transaction: all of them are taken, or none."""
        self.fire_all(tuple(triggers), facts)

    @rule(data=st.data(), steps=st.integers(1, 8))
    def go_on(self, data: st.DataObject, steps: int) -> None:
        """Fire what is legal and ends nothing, so that a session comes further than its first steps."""
        for _ in range(steps):
            onward = [trigger for trigger in self._legal() if trigger not in _ENDING]
            if onward:
                self.fire_all((data.draw(st.sampled_from(onward)),), KIND)

    @rule(data=st.data(), facts=FACTS)
    def try_what_is_legal(self, data: st.DataObject, facts: Facts) -> None:
        """Fire what has an edge, with facts that may refuse it."""
        if legal := self._legal():
            self.fire_all((data.draw(st.sampled_from(legal)),), facts)

    def _legal(self) -> list[AnyTrigger]:
        of_batch = BATCH.legal(self.machine.batch) if self.machine.batch else ()
        return [*SESSION.legal(self.machine.phase), *of_batch]

    @precondition(lambda self: SESSION.is_final(self.machine.phase))
    @rule(triggers=st.lists(TRIGGERS, max_size=3))
    def begin_again(self, triggers: list[AnyTrigger]) -> None:
        """Fire at a session that has ended, which changes nothing, and begin a new one."""
        for trigger in triggers:
            self.fire_all((trigger,), KIND)
        self.machine, self.reference, self.journal = type(self).make(), Reference(), []

    @rule(trigger=st.sampled_from(Trigger))
    def lose_the_journal(self, trigger: Trigger) -> None:
        """Fire a trigger while the journal cannot be written: nothing moves."""
        with contextlib.suppress(IllegalTransition, GuardRefused, PowerCut):
            moves = self.machine.fire(trigger, facts=KIND, commit=_cut)
            raise AssertionError(f"{moves} were taken although the journal was not written")

    def fire_all(self, triggers: tuple[AnyTrigger, ...], facts: Facts) -> None:
        """Fire ``triggers`` at the machine and at the reference, and compare what they say."""
        expected, culprit = self.reference.fire(triggers, facts)
        said, at, moves, written = self._fired(triggers, facts)
        _check(
            (said, at) == (expected, culprit),
            f"{_words(triggers)}: {said.value} at {at}, but it ought to be {expected.value} at {culprit}",
        )
        _check(
            written == ([moves] if said is Answer.TAKEN else []),
            f"{_words(triggers)}: {written} was written, but {moves} was taken",
        )
        self.journal.extend(moves)

    def _fired(
        self, triggers: tuple[AnyTrigger, ...], facts: Facts
    ) -> tuple[Answer, AnyTrigger | None, tuple[Move, ...], list[tuple[Move, ...]]]:
        written: list[tuple[Move, ...]] = []
        try:
            moves = self.machine.fire(*triggers, facts=facts, commit=written.append)
        except IllegalTransition as error:
            return Answer.ILLEGAL, error.trigger, (), written
        except GuardRefused as error:
            return Answer.REFUSED, error.trigger, (), written
        return Answer.TAKEN, None, moves, written

    @invariant()
    def stands_where_it_should(self) -> None:
        """Memory is where the reference is."""
        stands = (self.machine.phase, self.machine.batch)
        ought = (self.reference.phase, self.reference.batch)
        _check(stands == ought, f"the machine stands in {stands}, but ought to in {ought}")

    @invariant()
    def journal_tells_the_same(self) -> None:
        """The journal, read from its beginning, leads to the phases that the machine is in."""
        session, batch = Phase(SESSION.initial), None
        for move in self.journal:
            source = session if move.chart == SESSION.name else batch
            _check(move.source == source, f"{move} does not begin in {source}")
            session = move.target if isinstance(move.target, Phase) else session
            batch = batch_after(move.trigger, move.target, batch)
        _check((self.machine.phase, self.machine.batch) == (session, batch), "the journal leads elsewhere")


def _check(holds: bool, words: str) -> None:
    if not holds:
        raise AssertionError(words)


def _words(triggers: tuple[AnyTrigger, ...]) -> str:
    return " and ".join(triggers)


def _cut(moves: tuple[Move, ...]) -> None:
    raise PowerCut(f"{len(moves)} moves were not written")


def lifecycle_machine(make: Callable[[], Machine] = SessionMachine) -> type[LifecycleMachine]:
    """Return a stateful test of the machines that ``make`` returns, to run or to subclass.

    It fires every trigger of both charts in any order with any facts, alone and together, and with a
    journal that fails; it compares every answer with a reference that shares nothing with the charts.
    """
    return type("Lifecycle", (LifecycleMachine,), {"make": staticmethod(make)})
