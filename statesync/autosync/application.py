"""Several keepers as one: an application with more than one scope or store."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from statesync.autosync.handle import AutoSync
from statesync.autosync.round import SessionOutcome, run_round
from statesync.autosync.status import KeeperStatus
from statesync.autosync.turns import Turns
from statesync.checks import check_kind
from statesync.errors import UsageError
from statesync.scope import Scope


class Application:
    """Keeps several scopes in sync, of one store or of several, with one hub or with several.

    Give keepers that were not started, or scopes, which get a keeper with its usual settings. Sessions run
    one after the other, or (``parallel``) beside each other, one a store. One that fails stops no other.
    Raises ``UsageError`` for a keeper that is given twice.
    """

    def __init__(self, keepers: Iterable[AutoSync | Scope], *, parallel: bool = False) -> None:
        check_kind("keepers", keepers, Iterable, "several of AutoSync or Scope")
        some = tuple(keepers)
        for each in some:
            check_kind("each of keepers", each, (AutoSync, Scope), "an AutoSync or a Scope")
        self.keepers: tuple[AutoSync, ...] = tuple(
            each if isinstance(each, AutoSync) else AutoSync(each) for each in some
        )
        if len(set(self.keepers)) < len(self.keepers):
            raise UsageError("a keeper stands twice in the application, and is started once; give it once")
        self._parallel = parallel

    def sync(self) -> tuple[SessionOutcome, ...]:
        """Run one session of each scope, and return how each ended: its result, or its error.

        They stand in the order of the keepers. A ``KeyboardInterrupt`` cancels the sessions that run and
        waits for their drain. Raises ``UsageError`` once the keepers were started: nudge them then.
        """
        if any(keeper.is_begun for keeper in self.keepers):
            raise UsageError("the keepers were started, and begin sessions by themselves; nudge them")
        return run_round([(keeper.scope, keeper.options) for keeper in self.keepers], parallel=self._parallel)

    def start(self) -> None:
        """Start every keeper, or none: raises what ``AutoSync.start`` raises before any was started.

        Where one cannot live, as without a thread, those before it are stopped again.
        """
        for keeper in self.keepers:
            keeper.check()
        turns = Turns()
        try:
            for keeper in self.keepers:
                if not self._parallel:
                    keeper._driver.take_turns(turns)
                keeper.start()
        except BaseException:
            self.stop()
            raise

    def nudge(self) -> None:
        """Ask each keeper for a session now."""
        for keeper in self.keepers:
            keeper.nudge()

    def stop(self, grace: float | None = None, *, wait: bool = True) -> None:
        """Stop every keeper, all at the same time; see ``AutoSync.stop``."""
        for keeper in self.keepers:
            keeper.stop(grace, wait=False)
        if wait:
            for keeper in self.keepers:
                keeper.wait()

    def status(self) -> tuple[KeeperStatus, ...]:
        """Return what each keeper does, in their order. Raises ``StoreError``."""
        return tuple(keeper.status() for keeper in self.keepers)

    @property
    def is_up_to_date(self) -> bool:
        """Whether every keeper says so of itself."""
        return all(status.is_up_to_date for status in self.status())

    def __enter__(self) -> Application:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Application:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop_async()

    async def stop_async(self, grace: float | None = None) -> None:
        """Stop every keeper beside the event loop, also where the waiting task is cancelled."""
        from statesync.autosync.aio import stopped

        self.stop(grace, wait=False)
        await stopped([keeper._driver for keeper in self.keepers])
