"""The one mailbox of a session's loop, and the worker that does its requests beside it.

``post`` is a single put into a ``SimpleQueue``, which is reentrant: it may be called from any thread and
from a signal handler, and returns at once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from logging import Logger, getLogger
from queue import Empty, SimpleQueue

from attrs import frozen

from statesync.errors import InternalError, RemoteError
from statesync.net.remote import Remote
from statesync.threads import Task, threads
from statesync.values import Reason
from statesync.wire import Page, Pull, Push, PushAnswer

logger: Logger = getLogger(__name__)

Failure = RemoteError | InternalError

_AGAIN = 0.02
"""Seconds after which a request that has not ended is interrupted again."""


@frozen
class Cancel:
    """Somebody asks for the end; ``grace`` are the seconds left to the batch in flight, None for no bound."""

    reason: Reason
    grace: float | None


@frozen
class Reply:
    """A request has ended, after ``seconds``, with an answer or an error."""

    request: Push | Pull
    answer: PushAnswer | Page | None
    error: Failure | None
    seconds: float


Letter = Cancel | Reply


class Mailbox:
    """Letters in the order in which they came, but for cancels, which go first."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Letter] = SimpleQueue()
        self._letters: deque[Letter] = deque()

    def post(self, letter: Letter) -> None:
        """Leave a letter; from any thread, or a signal handler."""
        self._queue.put(letter)

    def has_cancel(self) -> bool:
        """Tell whether a cancel waits; never waits itself."""
        self._fetch(0.0)
        return any(isinstance(letter, Cancel) for letter in self._letters)

    def take_cancel(self) -> Cancel | None:
        """Return the cancel that waits, or None; never waits itself."""
        self._fetch(0.0)
        return self._pop_cancel()

    def take(self, timeout: float | None) -> Letter | None:
        """Wait up to ``timeout`` seconds (None: for ever) for a letter."""
        if not self._letters:
            self._fetch(timeout)
        return self._pop() if self._letters else None

    def _fetch(self, timeout: float | None) -> None:
        try:
            letter = self._queue.get(timeout=timeout) if timeout != 0.0 else self._queue.get_nowait()
            while True:
                self._letters.append(letter)
                letter = self._queue.get_nowait()
        except Empty:
            return

    def _pop_cancel(self) -> Cancel | None:
        for letter in self._letters:
            if isinstance(letter, Cancel):
                self._letters.remove(letter)
                return letter
        return None

    def _pop(self) -> Letter:
        return self._pop_cancel() or self._letters.popleft()


class Worker:
    """A thread that does one request at a time and posts its end.

    It begins with the first request. ``stop`` waits for it; a remote that does not let go of its request
    within ``patience`` seconds is left to end by itself.
    """

    def __init__(self, remote: Remote, post: Callable[[Reply], None]) -> None:
        self._remote = remote
        self._post = post
        self._requests: SimpleQueue[Push | Pull | None] = SimpleQueue()
        self._task: Task | None = None
        self._begun = self._ended = 0

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""
        return self._begun != self._ended

    def send(self, request: Push | Pull) -> None:
        """Start a request, after those that are under way; its end comes as a ``Reply``."""
        self._begun += 1
        if self._task is None:
            self._task = Task(self._work, "statesync-request")
            threads.start(self._task)
        self._requests.put(request)

    def dismiss(self) -> None:
        """Let the thread end after what it does now: nothing else will be asked for. Waits for nothing."""
        self._requests.put(None)

    def stop(self, patience: float) -> bool:
        """End the thread and whatever it is doing; tell whether it has ended."""
        if self._task is None:
            return True
        self.dismiss()
        until = time.monotonic() + patience
        while self.is_busy and time.monotonic() < until:
            self._remote.interrupt()  # more than once: a request may begin just after it was interrupted
            if self._task.wait(_AGAIN):
                return True
        return self._task.wait(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while (request := self._requests.get()) is not None:
            began = time.monotonic()
            answer, error = self._ask(request)
            self._ended += 1
            self._post(Reply(request, answer, error, time.monotonic() - began))

    def _ask(self, request: Push | Pull) -> tuple[PushAnswer | Page | None, Failure | None]:
        try:
            if isinstance(request, Push):
                return self._remote.push(request), None
            return self._remote.pull(request), None
        except RemoteError as error:
            return None, error
        except Exception as error:  # a remote of the program's own may raise anything; the loop must hear
            logger.exception("a remote raised something that is no RemoteError")
            failure = InternalError(f"the remote raised {type(error).__name__}: {error}")
            failure.__cause__ = error
            return None, failure


class Requests:
    """What the session has asked for: the open batch's answer, and the next page, read ahead of its batch.

    A page is read ahead while the one before it is stored. It becomes the answer of the next batch once
    that is open and asks for the very same; nobody looks at it otherwise.
    """

    def __init__(self, worker: Worker, post: Callable[[Reply], None]) -> None:
        self._worker = worker
        self._post = post
        self._awaited: Push | Pull | None = None
        self._ahead: Pull | None = None
        self._early: Reply | None = None

    def send(self, request: Push | Pull) -> None:
        """Ask for the open batch's answer, unless it has been read ahead."""
        ahead, early = self._ahead, self._early
        self._ahead = self._early = None
        if ahead is None or request != ahead:
            self._awaited = request
            self._worker.send(request)
        else:
            self._awaited = ahead
            if early is not None:
                self._post(early)

    def read_ahead(self, request: Pull) -> None:
        """Ask for the page of a batch that is not open yet."""
        self._ahead = request
        self._worker.send(request)

    def is_awaited(self, reply: Reply) -> bool:
        """Tell whether ``reply`` is the open batch's; one that came early is kept for its batch."""
        if reply.request is self._ahead:
            self._early = reply
        return reply.request is self._awaited
