"""Connecting to a host: its name is looked up, and its addresses are tried beside each other.

Some of a name's addresses may be dead, such as all those of IPv6 behind a bad router. So the next one is
begun with shortly after the one before it, as RFC 8305 has it ("happy eyeballs"), and the first that answers
is taken. The look-up and all addresses share one time, and another thread can end the search at any moment.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from itertools import chain, zip_longest
from selectors import EVENT_WRITE, DefaultSelector
from typing import Any

from statesync.threads import Task, threads

HEAD_START = 0.25
"""Seconds that an address has for itself before the next one is tried beside it (RFC 8305, section 5)."""

LOOK = 0.05
"""Seconds after which a search looks again whether it was cut."""

_UNDER_WAY = {0, errno.EINPROGRESS, errno.EWOULDBLOCK}

Place = tuple[socket.AddressFamily, Any]
"""One address: its family, and what ``connect`` takes."""


class Patience:
    """How long a search may go on."""

    def __init__(self, seconds: float, is_cut: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._is_cut = is_cut

    def bit(self) -> float:
        """Return how long to wait before the next look; raises ``OSError`` once the search is over."""
        if self._is_cut():
            raise OSError("it was cut before it stood")
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"timed out after {self._seconds:g} seconds")
        return min(left, LOOK)


def reach(host: str, port: int, patience: Patience) -> socket.socket:
    """Connect to the first of the host's addresses that answers, while there is patience.

    Raises ``OSError``: what the look-up of the name says, the last address's failure, or ``TimeoutError``.
    """
    race = _Race(_look_up(host, port, patience))
    try:
        while (link := race.winner(patience)) is None:
            pass
        return link
    finally:
        race.end()


def _look_up(host: str, port: int, patience: Patience) -> list[Place]:
    """Return the addresses of a host. Nothing ends a look-up by the system: it is left to its thread."""
    try:
        return _places(host, port, socket.AI_NUMERICHOST)
    except socket.gaierror:  # it is a name
        found: list[list[Place] | OSError] = []
        task = Task(lambda: found.append(_places_or_failure(host, port)), "statesync-look-up")
    threads.start(task)
    while not task.wait(patience.bit()):
        pass
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]


def _places_or_failure(host: str, port: int) -> list[Place] | OSError:
    try:
        return _places(host, port)
    except OSError as error:
        return error


def _places(host: str, port: int, flags: int = 0) -> list[Place]:
    """Return a host's addresses in the system's order, but the families by turns."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    places = [(family, address) for family, _, _, _, address in found]
    first = [place for place in places if place[0] == places[0][0]]
    others = [place for place in places if place[0] != places[0][0]]
    return [place for place in chain.from_iterable(zip_longest(first, others)) if place is not None]


class _Race:
    """Addresses that are tried beside each other."""

    def __init__(self, places: list[Place]) -> None:
        self._left = deque(places)
        self._running = DefaultSelector()
        self._next_at = time.monotonic()
        self._failure = OSError("the name has no address")

    def winner(self, patience: Patience) -> socket.socket | None:
        """Wait a bit, and return the connection that stands, if any does.

        Raises ``OSError``, the last failure, once no address is left.
        """
        if self._left and (time.monotonic() >= self._next_at or not self._running.get_map()):
            self._start(*self._left.popleft())
        if not self._running.get_map():
            if not self._left:
                raise self._failure
            return None
        wait = patience.bit()
        if self._left:
            wait = min(wait, max(0.0, self._next_at - time.monotonic()))
        for key, _ in self._running.select(wait):
            if (link := self._judge(key.data)) is not None:
                return link
        return None

    def _start(self, family: socket.AddressFamily, address: Any) -> None:
        self._next_at = time.monotonic() + HEAD_START
        try:
            link = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # the system has none of this family
            self._fail(error)
            return
        link.settimeout(0.0)
        number = link.connect_ex(address)
        if number in _UNDER_WAY:
            self._running.register(link, EVENT_WRITE, link)
        else:
            link.close()
            self._fail(_said(number))

    def _judge(self, link: socket.socket) -> socket.socket | None:
        """Return a connection that is no longer under way, or let go of it if it failed."""
        self._running.unregister(link)
        number = link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            link.close()
            self._fail(_said(number))
            return None
        return link

    def _fail(self, failure: OSError) -> None:
        self._failure = failure
        self._next_at = time.monotonic()  # nobody has to wait for this one

    def end(self) -> None:
        """Give up all that is still under way."""
        for key in list(self._running.get_map().values()):
            key.data.close()
        self._running.close()


def _said(number: int) -> OSError:
    return OSError(number, os.strerror(number))
