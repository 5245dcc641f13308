"""What a keeper syncs: a scope, seen from inside. Here alone something reaches behind its methods."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from statesync.autosync.turns import Turns
from statesync.errors import BadOptions
from statesync.net.remote import HttpRemote
from statesync.net.signals import LiveRemote, Signals
from statesync.scope import Scope
from statesync.session.handle import OnProgress, Session
from statesync.session.running import Keeper
from statesync.store.news.lookout import Lookout
from statesync.store.parts import StoreParts
from statesync.values import SyncOptions

_turns: WeakKeyDictionary[StoreParts, Turns] = WeakKeyDictionary()


class Target:
    """A scope, its lookout, and whose turn it is in its store."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.lookout: Lookout = Lookout(scope._parts, scope._names, scope.remote.space)
        self.turns: Turns = _turns.setdefault(scope._parts, Turns())

    def enter(self, keeper: Keeper) -> None:
        """Let the store know a keeper that lives: its ``close`` ends it."""
        self._scope._running.keepers.add(keeper)

    def watch_token(self, tell: Callable[[], object]) -> None:
        """Call ``tell`` whenever the remote gets another token, if it is one that says so."""
        if isinstance(self._scope.remote, HttpRemote):
            self._scope.remote.watch_token(tell)

    def unwatch_token(self, tell: Callable[[], object]) -> None:
        """Call it no more."""
        if isinstance(self._scope.remote, HttpRemote):
            self._scope.remote.unwatch_token(tell)

    def begin(self, options: SyncOptions, on_progress: OnProgress | None = None) -> Session:
        """Return a session that is being started, and has not begun yet; raises as ``start_sync`` does."""
        return self._scope._begin(options, on_progress=on_progress)

    def check_live(self, options: SyncOptions) -> None:
        """Raise ``BadOptions`` where a keeper that listens would be told nothing, or could do nothing."""
        self._live_remote()
        if not options.downloads:
            raise BadOptions("live is for sessions that download: the hub tells what others have sent")

    def signals(self) -> Signals:
        """Return who asks the hub for news, on a connection of its own."""
        return self._live_remote().signals()

    def _live_remote(self) -> LiveRemote:
        remote = self._scope.remote
        if not isinstance(remote, LiveRemote):
            kind = type(remote).__name__
            raise BadOptions(f"live needs a remote that tells of news, and {kind} has no signals()")
        return remote

    def forget(self, keeper: Keeper) -> None:
        """Let the store know a keeper no longer."""
        self._scope._running.keepers.discard(keeper)

    def clear_up(self) -> None:
        """Close what code of the program's has opened in the calling thread, and roll back what is open."""
        self._scope._parts.database.clear_up()

    def leave(self) -> None:
        """Close the calling thread's connection."""
        self._scope._parts.database.leave()
