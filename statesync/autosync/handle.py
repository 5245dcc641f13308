"""A keeper as the program holds it: it is started, nudged, asked, and stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from inspect import iscoroutinefunction
from types import NoneType, TracebackType

from statesync.autosync.conditions import Condition
from statesync.autosync.driver import Driver
from statesync.autosync.status import KeeperStatus
from statesync.autosync.target import Target
from statesync.checks import check_callbacks, check_kind
from statesync.errors import BadOptions, UsageError
from statesync.keeping.messages import Nudged, StopAsked, TokenRenewed
from statesync.keeping.options import KeeperOptions
from statesync.lifecycle import Chart
from statesync.scope import Scope
from statesync.session.handle import OnProgress
from statesync.values import CancelOptions, SyncOptions


class AutoSync:
    """Keeps a scope in sync until it is stopped: begins sessions by itself, one at a time.

    ``every`` are the seconds from the end of one session to the next where nothing asks for one before,
    ``min_gap`` those that are left between two in any case (None: one, and no more than ``every``).
    ``on_change`` begins one after a commit to the store, of this program or of another, that has left
    something to send, once no other has come for ``debounce`` seconds (None: 0.01). ``only_if`` names
    conditions, functions that answer yes or no: no session begins while one of them says no. ``options`` are
    those of each session. After a failure it waits from 1 to 60 seconds, and never less than the hub asks
    for. ``live`` listens to the hub in between, and begins one when somebody else has sent something there;
    a hub that does not tell, or cannot be reached for that, leaves it to the interval. ``on_progress`` gets
    the ``Progress`` of each session, in the session's thread.

    Use it as a context manager, also ``async with``, or call ``start`` and ``stop``. Raises ``BadOptions``
    for values that make no sense.
    """

    def __init__(
        self,
        scope: Scope,
        every: float = 300.0,
        on_change: bool = True,
        live: bool = False,
        only_if: Mapping[str, Condition] | None = None,
        options: SyncOptions | None = None,
        *,
        min_gap: float | None = None,
        debounce: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        check_kind("scope", scope, Scope, "a Scope")
        check_kind("options", options, (SyncOptions, NoneType), "SyncOptions")
        check_kind("only_if", only_if, (Mapping, NoneType), 'names with functions, as {"name": function}')
        check_callbacks(on_progress=on_progress)
        conditions = dict(only_if or {})
        for name, condition in conditions.items():
            if not callable(condition) or iscoroutinefunction(condition):
                raise BadOptions(
                    f"only_if: {name} must be a function that answers yes or no, not {condition!r}"
                )
        usual = KeeperOptions(every=every)
        settings = KeeperOptions(
            every=every,
            min_gap=usual.min_gap if min_gap is None else min_gap,
            debounce=usual.debounce if debounce is None else debounce,
            on_change=on_change,
            live=live,
            conditions=tuple(conditions),
        )
        self._scope = scope
        target = Target(scope)
        self._sync_options = options or SyncOptions()
        if live:
            target.check_live(self._sync_options)
        self._driver = Driver(target, self._sync_options, settings, conditions, on_progress)

    @property
    def is_begun(self) -> bool:
        """Whether it was started, or stopped before that."""
        return self._driver.is_begun

    @property
    def options(self) -> SyncOptions:
        """The options of each session."""
        return self._sync_options

    @property
    def scope(self) -> Scope:
        """What it keeps in sync."""
        return self._scope

    @property
    def chart(self) -> Chart:
        """The chart that it runs, with its conditions by their names: ``diagram.show(keeper.chart)``."""
        return self._driver.machine.chart

    def start(self) -> None:
        """Begin to live, with a first session at once; returns at once.

        Raises ``StoreNotReady`` before the store is set up, and ``UsageError`` for a keeper that was started
        before: one that has stopped is not started again, another is made.
        """
        self.check()
        self._driver.start()

    def check(self) -> None:
        """Raise what ``start`` would raise now: ``StoreNotReady``, and ``UsageError`` where it was begun."""
        if self.is_begun:
            raise UsageError("a keeper is started once; make another one")
        _ = self._scope.objects

    def nudge(self) -> None:
        """Ask for a session now: as soon as the gap after the last one is over. From any thread."""
        self._driver.tell(Nudged())

    def token_renewed(self) -> None:
        """Say that the hub will take the token now: a keeper that waits for one goes on. From any thread.

        ``HttpRemote.renew_token`` says so by itself.
        """
        self._driver.tell(TokenRenewed())

    def stop(self, grace: float | None = None, *, wait: bool = True) -> None:
        """Begin nothing any more, bring the session that runs to its end, and wait for that.

        ``grace`` bounds the seconds that its batch in flight may take, and with it the whole end, which comes
        a second later at most; None: as the options' ``cancel_grace`` says. Without ``wait`` it returns at
        once, and may be called from a signal handler. May be called again, with a shorter grace. Raises
        ``UsageError`` in a callback of the session, which it cannot wait for; it is stopped all the same.
        """
        self._driver.stop(StopAsked(CancelOptions(grace=grace).grace))
        if wait:
            self._driver.wait()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has stopped, up to ``timeout`` seconds; tell whether it has."""
        return self._driver.wait(timeout)

    def status(self) -> KeeperStatus:
        """Return what it does, why, what wakes it next, and what is stuck now. Raises ``StoreError``."""
        return self._driver.status()

    def __enter__(self) -> AutoSync:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> AutoSync:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop_async()

    async def stop_async(self, grace: float | None = None) -> None:
        """Stop as ``stop`` does, beside the event loop, and also where the waiting task is cancelled."""
        # asyncio is a tenth of what the import of statesync takes, and most programs have threads.
        from statesync.autosync.aio import stopped

        self.stop(grace, wait=False)
        await stopped([self._driver])

    def __aiter__(self) -> AsyncIterator[KeeperStatus]:
        """Return its statuses: the one of now, and each new one up to ``stopped``.

        A reader that is slow gets the newest, not all that it has missed. Raises ``UsageError`` for a keeper
        that was not started, and in a process that was forked meanwhile: nothing would ever come; and
        ``StoreError``, as ``status`` does, where the store cannot be read: the keeper goes on, and may be
        read again.
        """
        from statesync.autosync.aio import statuses

        if not self.is_begun:
            raise UsageError("the keeper was not started; start it, or use it with `async with`")
        if self._driver.is_inherited:
            raise UsageError("the keeper lives in the process that this one was forked from; watch it there")
        return statuses(self._driver)
