"""What a keeper syncs: a scope, seen from inside. Here alone something reaches behind its methods."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from statesync.autosync.turns import Turns
from statesync.net.remote import HttpRemote
from statesync.scope import Scope
from statesync.session.handle import OnProgress, Session
from statesync.session.running import Keeper
from statesync.store.lookout import Lookout
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

    def forget(self, keeper: Keeper) -> None:
        """Let the store know a keeper no longer."""
        self._scope._running.keepers.discard(keeper)

    def leave(self) -> None:
        """Close the calling thread's connection."""
        self._scope._parts.database.leave()
