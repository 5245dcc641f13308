"""One who asks a hub for news, and waits for the answer in a thread of the test's."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from attrs import define, field

from ..devices import Device, Service

PATIENCE = 20.0


@define(eq=False)
class Asker:
    """One question; ``answer`` waits for what became of it."""

    service: Service
    space: str
    since: int = 0
    wait: float = PATIENCE
    token: str = ""
    status: int = 0
    said: dict[str, Any] = field(factory=dict)
    headers: dict[str, str] = field(factory=dict)
    took: float = 0.0
    _thread: threading.Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        began = time.monotonic()
        path = f"/v1/spaces/{self.space}/changes?since={self.since}&wait={self.wait:g}"
        answer = self.service.ask("GET", path, Authorization=f"Bearer {self.token}")
        self.took = time.monotonic() - began
        self.headers = {name.lower(): value for name, value in answer.headers.items()}
        self.status, self.said = answer.status, json.loads(answer.data)

    def answer(self) -> tuple[int, dict[str, Any]]:
        self._thread.join(2 * PATIENCE)
        return self.status, self.said

    def has_no_answer_within(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return self._thread.is_alive()


def pushed(device: Device, key: str = "a") -> int:
    """Push a change, and return the head after it."""
    (verdict,) = device.push({"object": "Airport", "key": key, "op": "upsert", "base": 0, "data": {}})
    return int(verdict["version"])
