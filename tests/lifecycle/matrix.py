"""Every pair of phase and trigger, written by hand from sections 3.1 and 3.2 of the design.

One line a pair: phase, trigger, then the phase it leads to and the guards, or ``illegal``. The tables
in ``statesync.lifecycle`` are compared with this one; neither is made from the other.
"""

from __future__ import annotations

from attrs import frozen

from statesync.lifecycle import AnyPhase, AnyTrigger, Chart

SESSION_PAIRS = """
idle         start            uploading
idle         open_batch       illegal
idle         commit_batch     illegal
idle         abort_batch      illegal
idle         finish_upload    illegal
idle         finish_download  illegal
idle         cancel           cancelled
idle         settle           illegal
idle         fail             failed        no_batch_open

uploading    start            illegal
uploading    open_batch       uploading     no_batch_open
uploading    commit_batch     uploading     batch_received
uploading    abort_batch      uploading     batch_open request_over
uploading    finish_upload    downloading   no_batch_open outbox_drained
uploading    finish_download  illegal
uploading    cancel           cancelling
uploading    settle           illegal
uploading    fail             failed        no_batch_open

downloading  start            illegal
downloading  open_batch       downloading   no_batch_open
downloading  commit_batch     downloading   batch_received
downloading  abort_batch      downloading   batch_open request_over
downloading  finish_upload    illegal
downloading  finish_download  done          no_batch_open feed_drained
downloading  cancel           cancelling
downloading  settle           illegal
downloading  fail             failed        no_batch_open

cancelling   start            illegal
cancelling   open_batch       illegal
cancelling   commit_batch     cancelling    batch_received
cancelling   abort_batch      cancelling    batch_open request_over
cancelling   finish_upload    illegal
cancelling   finish_download  illegal
cancelling   cancel           illegal
cancelling   settle           cancelled     no_batch_open nothing_in_doubt
cancelling   fail             failed        no_batch_open

cancelled    start            illegal
cancelled    open_batch       illegal
cancelled    commit_batch     illegal
cancelled    abort_batch      illegal
cancelled    finish_upload    illegal
cancelled    finish_download  illegal
cancelled    cancel           illegal
cancelled    settle           illegal
cancelled    fail             illegal

failed       start            illegal
failed       open_batch       illegal
failed       commit_batch     illegal
failed       abort_batch      illegal
failed       finish_upload    illegal
failed       finish_download  illegal
failed       cancel           illegal
failed       settle           illegal
failed       fail             illegal

done         start            illegal
done         open_batch       illegal
done         commit_batch     illegal
done         abort_batch      illegal
done         finish_upload    illegal
done         finish_download  illegal
done         cancel           illegal
done         settle           illegal
done         fail             illegal
"""

BATCH_PAIRS = """
open         send             in_flight     not_cancelling
open         receive          illegal
open         retry            illegal
open         commit           illegal
open         abort            aborted

waiting      send             in_flight     not_cancelling
waiting      receive          illegal
waiting      retry            illegal
waiting      commit           illegal
waiting      abort            aborted

in_flight    send             illegal
in_flight    receive          received
in_flight    retry            waiting       retryable attempts_left not_cancelling
in_flight    commit           illegal
in_flight    abort            aborted       request_over

received     send             illegal
received     receive          illegal
received     retry            illegal
received     commit           committed
received     abort            aborted

committed    send             illegal
committed    receive          illegal
committed    retry            illegal
committed    commit           illegal
committed    abort            illegal

aborted      send             illegal
aborted      receive          illegal
aborted      retry            illegal
aborted      commit           illegal
aborted      abort            illegal
"""


@frozen
class Pair:
    """What must happen to one trigger in one phase; a ``target`` of None means that it is illegal."""

    phase: str
    trigger: str
    target: str | None
    guards: frozenset[str]

    def __str__(self) -> str:
        return f"{self.phase}-{self.trigger}"

    def is_what(self, chart: Chart, phase: AnyPhase, trigger: AnyTrigger) -> bool:
        """Tell whether ``chart`` says the same of this pair."""
        said = [
            (str(edge.target), frozenset(guard.name for guard in edge.guards))
            for edge in chart.edges_of(phase, trigger)
        ]
        return said == ([] if self.target is None else [(self.target, self.guards)])


def read(table: str) -> tuple[Pair, ...]:
    """Return the pairs of a table above, in its order."""
    rows = [line.split() for line in table.splitlines() if line]
    return tuple(
        Pair(phase, trigger, None if target == "illegal" else target, frozenset(guards))
        for phase, trigger, target, *guards in rows
    )


SESSION_MATRIX = read(SESSION_PAIRS)
BATCH_MATRIX = read(BATCH_PAIRS)


def disagreements(chart: Chart, matrix: tuple[Pair, ...]) -> tuple[Pair, ...]:
    """Return the pairs of which ``chart`` says something else than ``matrix``."""
    phases = {str(phase): phase for phase in chart.phases}
    triggers = {str(edge.trigger): edge.trigger for edge in chart.edges}
    return tuple(
        pair
        for pair in matrix
        if not (
            pair.is_what(chart, phases[pair.phase], triggers[pair.trigger])
            if pair.trigger in triggers
            else pair.target is None
        )
    )
