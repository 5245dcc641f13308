"""The requests of a session: made one at a time, in a thread beside the session's loop.

A page may be asked for ahead, while the one before it is stored. It becomes the answer of the next batch
once that is open and asks for the very same; nobody looks at it otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from logging import Logger, getLogger
from queue import SimpleQueue

from statesync.classes import frozen
from statesync.errors import InternalError, RemoteError, Stopped, words_of
from statesync.remote import Remote
from statesync.threads import Task, threads
from statesync.wire import Page, Pull, Push, PushAnswer

logger: Logger = getLogger(__name__)

Request = Push | Pull
Outcome = PushAnswer | Page | RemoteError | InternalError | Stopped

_AGAIN = 0.02
"""Seconds after which a request that has not ended is interrupted again."""


@frozen
class Reply:
    """A request has ended, after ``seconds``, with an answer or an error."""

    request: Request
    outcome: Outcome
    seconds: float


Post = Callable[[Reply], None]


class Requests:
    """What the session has asked for: the open batch's answer, and the page that was asked for ahead.

    ``clear_up`` is called in the requests' thread after each of them: a remote of the program's own may have
    left something open there.
    """

    def __init__(self, remote: Remote, post: Post, clear_up: Callable[[], None]) -> None:
        self._thread = _RequestThread(remote, post, clear_up)
        self._post = post
        self._awaited: Request | None = None
        self._ahead: Pull | None = None
        self._early: Reply | None = None

    def send(self, request: Request) -> None:
        """Ask for the open batch's answer, unless it was asked for ahead; its end comes as a ``Reply``."""
        ahead, early = self._ahead, self._early
        self._ahead = self._early = None
        if ahead is None or request != ahead:
            self._awaited = request
            self._thread.send(request)
        else:
            self._awaited = ahead
            if early is not None:
                self._post(early)

    def ask_ahead(self, request: Pull) -> None:
        """Ask for the page of a batch that is not open yet."""
        self._ahead = request
        self._thread.send(request)

    def accept(self, reply: Reply) -> bool:
        """Take a reply in: True if it is the open batch's; one that came early is kept for its batch."""
        if reply.request is self._ahead:
            self._early = reply
        return reply.request is self._awaited

    def end(self) -> None:
        """Let the thread end after what it does now: nothing else will be asked for. Waits for nothing."""
        self._thread.end()

    def is_in_this_thread(self) -> bool:
        """Tell whether it is a request itself that asks: the program's code gives its token, perhaps."""
        return self._thread.is_this_thread()

    def stop(self, patience: float) -> bool:
        """End the thread and whatever it does; tell whether it has ended within ``patience`` seconds."""
        return self._thread.stop(patience)


class _RequestThread:
    """A thread that makes one request at a time and posts its end. It begins with the first request."""

    def __init__(self, remote: Remote, post: Post, clear_up: Callable[[], None]) -> None:
        self._remote = remote
        self._post = post
        self._clear_up = clear_up
        self._requests: SimpleQueue[Request | None] = SimpleQueue()
        self._task: Task | None = None
        self._begun = self._ended = 0

    @property
    def _is_busy(self) -> bool:
        return self._begun != self._ended

    def send(self, request: Request) -> None:
        """Start a request, after those that are under way."""
        if self._task is None:
            task = Task(self._work, "statesync-request")
            threads.start(task)
            self._task = task
        self._begun += 1
        self._requests.put(request)

    def is_this_thread(self) -> bool:
        """Tell whether the calling thread is this one."""
        return self._task is not None and self._task.is_this_thread()

    def end(self) -> None:
        """Let the thread end after what it does now."""
        self._requests.put(None)

    def stop(self, patience: float) -> bool:
        """Interrupt the thread until it ends; one whose remote does not let go is left to end by itself."""
        if self._task is None:
            return True
        self.end()
        until = time.monotonic() + patience
        while self._is_busy and time.monotonic() < until:
            self._remote.interrupt()  # more than once: a request may begin just after it was interrupted
            if self._task.wait(_AGAIN):
                return True
        return self._task.wait(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while (request := self._requests.get()) is not None:
            began = time.monotonic()
            outcome = self._ask(request)
            self._ended += 1
            self._post(Reply(request, outcome, time.monotonic() - began))

    def _ask(self, request: Request) -> Outcome:
        try:
            try:
                return self._remote.push(request) if isinstance(request, Push) else self._remote.pull(request)
            finally:
                self._clear_up()
        except RemoteError as error:
            return error
        except Exception as error:  # a remote of the program's own may raise anything; the loop must hear
            logger.exception("a remote raised something that is no RemoteError")
            failure = InternalError(f"the remote raised {words_of(error)}")
            failure.__cause__ = error
            return failure
        except BaseException as error:  # what asks for the end of the thread: the session would wait for ever
            logger.exception("a remote ended a session")
            return Stopped.because_of(error)
