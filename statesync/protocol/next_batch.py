"""Which batch is next, and how it is opened and sent."""

from __future__ import annotations

from attrs import evolve

from statesync.errors import AllRejected, SyncFailed
from statesync.lifecycle import AnyTrigger, BatchPhase, BatchTrigger, Phase, Trigger
from statesync.protocol.conversation import Conversation, Doubt, OpenBatch, RequestState
from statesync.protocol.ending import (
    done,
    facts_of,
    fail,
    out_of_turn,
)
from statesync.protocol.messages import (
    Action,
    Begin,
    BeginSession,
    ComposeAhead,
    Continue,
    Continued,
    Decision,
    Effect,
    GiveHeadStart,
    Prepare,
    Prepared,
    Send,
    StoreAttempt,
    StoreBatch,
)
from statesync.values import Direction

MAX_ROUNDS = 3
"""How often a session sends a record whose conflicts it resolves, the first time included.

Rounds for conflicts that came without the hub's record do not count: each of them leaves fewer.
"""


def decision_of(
    then_is: Conversation, triggers: tuple[AnyTrigger, ...], effects: tuple[Effect, ...], *actions: Action
) -> Decision:
    """Return a decision whose guards know what the conversation knows after it."""
    return Decision(then_is, triggers, facts_of(then_is), effects, actions=actions)


def begin(now: Conversation, event: Begin) -> Decision:
    """Start the session; where nothing goes up, begin the download in the same transaction."""
    begun = evolve(now, doubt=Doubt.EARLIER) if event.replay else now
    uploads = now.uploads and event.waiting
    effects = (BeginSession(uploads),)
    if uploads or begun.is_replaying:
        return decision_of(begun, (Trigger.START,), effects, Continue())
    return leave_upload(begun, (Trigger.START,), effects)


def go_on(now: Conversation) -> Decision:
    """Send the batch that is written down, or look for the next one."""
    if now.batch is not None:
        is_next = now.batch.request is RequestState.NOT_SENT
        return _send(now, now.batch) if is_next else out_of_turn(now, Continued())
    if now.phase is Phase.DOWNLOADING and now.feed_drained:
        return out_of_turn(now, Continued())
    if now.phase is Phase.DOWNLOADING:
        return _open_download(now)
    if now.is_replaying:
        return Decision(now, actions=(Prepare(round=0),))
    if now.uploads and now.upload_error is None:
        return _look_for_more(now)
    return leave_upload(now, (), ())


def _look_for_more(now: Conversation) -> Decision:
    wanted = Prepare(now.round, now.looked_through, now.upload_limit, now.at_most)
    return Decision(now, actions=(wanted,))


def prepared(now: Conversation, event: Prepared) -> Decision:
    """Open the batch that stands ready; without one begin another round, or leave the upload."""
    if event.records:
        return _open_upload(now, event)
    if now.is_replaying:  # it has been settled by other means, such as a new identity
        return Decision(evolve(now, doubt=Doubt.NONE), actions=(Continue(),))
    if _goes_round_again(now):
        return _look_for_more(_next_round(now))
    error = upload_error_of(now)
    if error is not None and not now.downloads:
        return fail(now, error)
    return leave_upload(now, (), ())


def _goes_round_again(now: Conversation) -> bool:
    """Tell whether another round has anything to send, and will come to an end."""
    return _leaves_fewer_unread(now) or (now.resend > 0 and now.round - now.unread_rounds < MAX_ROUNDS)


def _leaves_fewer_unread(now: Conversation) -> bool:
    return now.unread > 0 and (now.fewest_unread is None or now.unread < now.fewest_unread)


def _next_round(now: Conversation) -> Conversation:
    if _leaves_fewer_unread(now):
        now = evolve(now, fewest_unread=now.unread, unread_rounds=now.unread_rounds + 1)
    return evolve(now, round=now.round + 1, resend=0, unread=0, looked_through=0)


def upload_error_of(now: Conversation) -> SyncFailed | None:
    """Return what a session has to say of its upload when everything else is done."""
    if now.all_rejected:
        return AllRejected(
            f"the hub rejected all {now.sent} records that were sent; pending() shows why, and each waits "
            "until it is edited, or until retry() is called, such as once a missing right is there"
        )
    return now.upload_error


def leave_upload(now: Conversation, before: tuple[AnyTrigger, ...], effects: tuple[Effect, ...]) -> Decision:
    """Finish the upload, and begin the download in the same transaction: no I/O lies between them."""
    triggers = (*before, Trigger.FINISH_UPLOAD)
    if now.downloads:
        return _open_download(now, triggers, effects)
    return done(evolve(now, outbox_drained=True, feed_drained=True), triggers, effects)


def compose_ahead(now: Conversation) -> Decision:
    """Use the time of an upload's request to compose the batch that follows it."""
    batch = now.batch
    if now.phase is not Phase.UPLOADING or batch is None or not batch.is_under_way:
        return Decision(now)
    after = max(now.looked_through, batch.last_position)
    return Decision(now, actions=(ComposeAhead(now.round, after, now.upload_limit, now.at_most),))


# -- sending it ------------------------------------------------------------------------------------


def _open_upload(now: Conversation, ready: Prepared) -> Decision:
    batch = OpenBatch(
        now.batches + 1,
        Direction.UPLOAD,
        records=ready.records,
        last_position=ready.last_position,
        are_offers=ready.are_offers,
    )
    return _open(now, batch)


def _open_download(
    now: Conversation, before: tuple[AnyTrigger, ...] = (), effects: tuple[Effect, ...] = ()
) -> Decision:
    return _open(now, OpenBatch(now.batches + 1, Direction.DOWNLOAD), before, effects)


def _open(
    now: Conversation,
    batch: OpenBatch,
    before: tuple[AnyTrigger, ...] = (),
    effects: tuple[Effect, ...] = (),
) -> Decision:
    """Open a batch and write down that it is sent; it is sent once a cancel has had its turn."""
    direction = batch.direction
    written = (StoreBatch(batch.number, direction), StoreAttempt(batch.number, batch.attempts))
    drained = direction is Direction.DOWNLOAD  # the upload is over, or there was none
    return decision_of(
        evolve(now, batches=batch.number, batch=batch, outbox_drained=drained),
        (*before, Trigger.OPEN_BATCH, BatchTrigger.SEND),
        (*effects, *written),
        Continue(),
    )


def send_again(now: Conversation) -> Decision:
    """Write down another attempt of the batch whose back-off is over."""
    if now.batch is None or now.batch.phase is not BatchPhase.WAITING:
        return Decision(now)
    batch = evolve(now.batch, attempts=now.batch.attempts + 1, request=RequestState.NOT_SENT)
    effects = (StoreAttempt(batch.number, batch.attempts),)
    return decision_of(evolve(now, batch=batch), (BatchTrigger.SEND,), effects, Continue())


def _send(now: Conversation, batch: OpenBatch) -> Decision:
    sent = evolve(now, batch=evolve(batch, request=RequestState.UNDER_WAY))
    if batch.direction is Direction.UPLOAD:
        return Decision(sent, actions=(Send(batch.direction), GiveHeadStart()))
    return Decision(sent, actions=(Send(batch.direction, now.page_size),))
