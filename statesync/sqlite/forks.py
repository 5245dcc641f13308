"""What becomes of locks, threads and SQLite's files in a process that was forked.

A fork copies locks as they are held, and no thread that would release them. Objects with such locks begin
anew in the child (``Heir``).

SQLite knows a process's locks on a file by heart. A fork copies what it knows and not the locks, so a child
that opens a file again which its parent had open believes to hold locks that are its parent's. When the
parent has closed the file, the log is deleted under the child, with what the child has committed. So SQLite
has to forget the file first, and does when every connection to it is closed. That is safe where nobody was
in the middle of something. Otherwise the file is not opened in the child at all.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Protocol
from weakref import WeakSet

from statesync.errors import UsageError
from statesync.sqlite.identity import Identity, identity_of


class Heir(Protocol):
    """Something that a forked process cannot go on with as it was."""

    def begin_anew(self) -> None:
        """Forget locks, threads and connections; called in the child, in its only thread."""


class Holder(Heir, Protocol):
    """An heir with connections to one SQLite file."""

    def held_file(self) -> Path:
        """Return the path of the file."""

    def held_connections(self) -> Collection[sqlite3.Connection]:
        """Return every connection that is open."""

    def is_at_rest(self) -> bool:
        """Tell whether no thread but the calling one uses a connection, or opens one."""


_registering: threading.RLock = threading.RLock()
"""Held while a set of these changes, and through a fork, which looks at all of them."""
_heirs: WeakSet[Heir] = WeakSet()
_holders: WeakSet[Holder] = WeakSet()
_held: list[sqlite3.Connection] = []
"""All connections while a fork happens; afterwards, in a child, those that nobody may close."""
_untouchable: set[Identity] = set()
"""The files of those."""


def begins_anew(heir: Heir) -> None:
    """Let ``heir`` begin anew in every child from now on, as long as it lives."""
    with _registering:
        _heirs.add(heir)


def holds_file(holder: Holder) -> None:
    """Let ``holder`` begin anew in every child, and what it holds be closed there or left alone."""
    with _registering:
        _holders.add(holder)


def lets_go(holder: Holder) -> None:
    """Let a fork ask ``holder`` for nothing any more: it has closed all that it held."""
    with _registering:
        _holders.discard(holder)


def check_not_inherited(path: Path) -> None:
    """Raise ``UsageError`` if this process must not open the SQLite file at ``path``."""
    if _untouchable and identity_of(path) in _untouchable:
        raise UsageError(
            f"{path.name} was in use when this process was forked, and SQLite cannot open it here without "
            "damage; fork before the file is opened, or start the process without a fork (spawn)"
        )


def _hold() -> None:
    """Keep all connections: in the child Python would close those of the threads that are not there."""
    _registering.acquire()
    _held.extend(connection for holder in _holders for connection in holder.held_connections())


def _go_on() -> None:
    _held.clear()
    _registering.release()


def _begin_anew() -> None:
    holders = list(_holders)
    # A thread that was inside of SQLite may have had a lock there, and then even a close would wait for ever.
    is_quiet = all(holder.is_at_rest() for holder in holders)
    if is_quiet and not any(connection.in_transaction for connection in _held):
        for connection in _held:
            connection.close()
        _held.clear()
    else:
        in_use = [holder for holder in holders if holder.held_connections() or not holder.is_at_rest()]
        _untouchable.update(found for holder in in_use if (found := identity_of(holder.held_file())))
    for heir in (*holders, *_heirs):
        heir.begin_anew()
    _registering.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_go_on, after_in_child=_begin_anew)
