"""When devices come, and what befalls the hub meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from attrs import define, field, frozen

from .device import Device, Tally
from .hub import HubProcess

_NEWS = 5
"""One device of so many has something to push on a steady day."""

_BULLIES = 8
"""Devices that push into one space without a pause."""

_BULLY_CHANGES = 500


@frozen
class Coming:
    """A device that comes at a moment, with so many changes."""

    at: float
    device: Device
    changes: int


Befalls = Callable[["Fleet", Tally, float], Awaitable[None]]


@define(eq=False)
class Fleet:
    """All devices, and their hub. A phase takes ``seconds``, and its last device ``patience`` more."""

    hub: HubProcess
    devices: list[Device]
    bullies: list[Device]
    seconds: float
    patience: float
    random: random.Random = field(factory=lambda: random.Random(1))

    async def run(self, phase: Phase, tally: Tally) -> None:
        """Let all devices come as the phase says, and wait until the last one has gone."""
        began = time.monotonic()
        until = began + self.seconds + self.patience

        async def come(coming: Coming) -> None:
            await asyncio.sleep(began + coming.at - time.monotonic())
            await coming.device.sync(coming.changes, tally, until)

        befalls = asyncio.ensure_future(phase.befalls(self, tally, began))
        await asyncio.gather(*(come(one) for one in phase.comings(self)))
        await befalls


async def _nothing(_fleet: Fleet, _tally: Tally, _began: float) -> None:
    """Let the hub be."""


async def _outage(fleet: Fleet, _tally: Tally, began: float) -> None:
    """Kill the hub after a third of the time, and start it again after the second one."""
    await asyncio.sleep(began + fleet.seconds / 3 - time.monotonic())
    fleet.hub.kill()
    await asyncio.sleep(began + fleet.seconds * 2 / 3 - time.monotonic())
    await asyncio.to_thread(fleet.hub.start)


async def _bullies(fleet: Fleet, _tally: Tally, began: float) -> None:
    """Let a space of its own push large batches all the time; what it gets is not counted."""
    until = began + fleet.seconds

    async def push(device: Device) -> None:
        uncounted = Tally()
        while time.monotonic() < until:
            await device.sync(_BULLY_CHANGES, uncounted, until + fleet.patience)

    await asyncio.gather(*map(push, fleet.bullies))


async def _surveys(fleet: Fleet, _tally: Tally, began: float) -> None:
    """Let the large space be surveyed all the time, as by a comparison; what it gets is not counted."""
    until, device, uncounted = began + fleet.seconds, fleet.bullies[0], Tally()
    if not device.written:
        await device.sync(_BULLY_CHANGES, uncounted, until + fleet.patience)
    while time.monotonic() < until:
        await device.survey(uncounted, until + fleet.patience)


def _steadily(fleet: Fleet) -> list[Coming]:
    """Every device comes twice, evenly; one of five has a change."""
    count = 2 * len(fleet.devices)
    order = fleet.devices * 2
    return [
        Coming(fleet.seconds * number / count, device, int(fleet.random.randrange(_NEWS) == 0))
        for number, device in enumerate(order)
    ]


def _in_the_morning(fleet: Fleet) -> list[Coming]:
    """Every device comes once, most of them around the middle, with the changes of a night."""
    middle, spread = fleet.seconds / 2, fleet.seconds / 8
    moments = (min(max(0.0, fleet.random.gauss(middle, spread)), fleet.seconds) for _ in fleet.devices)
    return [
        Coming(moment, device, fleet.random.randrange(20))
        for moment, device in zip(moments, fleet.devices, strict=True)
    ]


def _at_once(fleet: Fleet) -> list[Coming]:
    """Every device comes in the same moment, with a change: a network is back."""
    return [Coming(0.0, device, 1) for device in fleet.devices]


@frozen
class Phase:
    """What is done to a hub: who comes when, and what befalls it."""

    name: str
    comings: Callable[[Fleet], list[Coming]]
    befalls: Befalls = _nothing


PHASES = (
    Phase("steady", _steadily),
    Phase("morning", _in_the_morning),
    Phase("herd", _at_once),
    Phase("bully", _steadily, _bullies),
    Phase("survey", _steadily, _surveys),
    Phase("outage", _steadily, _outage),
)


def bullies_wanted() -> int:
    """Return how many devices the phase of the bully needs."""
    return _BULLIES
