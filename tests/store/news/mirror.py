"""A mirror of a table that is kept by nothing but the news of it."""

from __future__ import annotations

import threading
from typing import Any

from rig.device import Device, Rows
from rig.gate import wait_for

from statesync import News, Observation


class Mirror:
    """Reads what it is told of, and nothing else; ``told`` are all news that it got."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.rows: Rows = {}
        self.told: list[News] = []
        self._lock = threading.Lock()
        self.observation: Observation = device.store.observe(device.airport, self._hear)
        self._read(News("Airport", everything=True))

    def _hear(self, news: News) -> None:
        with self._lock:
            self.told.append(news)
            self._read(news)

    def _read(self, news: News) -> None:
        if news.everything:
            self.rows = self._device.rows()
            return
        for key in news.deleted:
            self.rows.pop(key, None)
        model: Any = self._device.airport
        for row in model.select().where(model.id.in_(news.stored)).tuples():
            self.rows[row[0]] = row[1:]

    def is_right(self) -> bool:
        """Wait until it shows what is in the table; False if it never does."""
        return wait_for(lambda: self.rows == self._device.rows())

    def take(self) -> list[News]:
        """Return the news that have come, once those have that are on their way."""
        assert self.is_right()
        with self._lock:
            told, self.told = self.told, []
        return told
