"""What is to be drawn, whatever it is drawn with: boxes, arrows, and what stands on them.

A ``Drawing`` is made from a chart and says nothing of its own about what may happen. An edge that stays
in its phase is a line inside the phase's box. An edge that every phase of the group shares is one arrow
that leaves the group's frame. So the picture shows the way, and the frame what holds all along it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from attrs import evolve, field

from statesync.classes import frozen
from statesync.lifecycle import (
    LINKED,
    AnyPhase,
    AnyTrigger,
    BatchPhase,
    BatchTrigger,
    Chart,
    Edge,
    KeeperPhase,
    KeeperTrigger,
    Phase,
    Trigger,
)


class Kind(StrEnum):
    """What a phase is like: the colour of its box."""

    READY = "ready"
    ACTIVE = "active"
    HINDERED = "hindered"
    STOPPING = "stopping"
    ENDED_WELL = "ended well"
    ENDED_OTHERWISE = "ended otherwise"


class Weight(StrEnum):
    """How strongly something is drawn."""

    PLAIN = "plain"
    STRONG = "strong"
    FAINT = "faint"
    ALARM = "alarm"


_NOT_ACTIVE: dict[AnyPhase, Kind] = {
    Phase.IDLE: Kind.READY,
    Phase.CANCELLING: Kind.STOPPING,
    Phase.DONE: Kind.ENDED_WELL,
    BatchPhase.OPEN: Kind.READY,
    BatchPhase.COMMITTED: Kind.ENDED_WELL,
    KeeperPhase.RESTING: Kind.READY,
    KeeperPhase.LISTENING: Kind.READY,
    KeeperPhase.BACKING_OFF: Kind.HINDERED,
    KeeperPhase.HELD: Kind.HINDERED,
    KeeperPhase.NEEDS_TOKEN: Kind.HINDERED,
    KeeperPhase.STOPPING: Kind.STOPPING,
    KeeperPhase.STOPPED: Kind.ENDED_WELL,
}

_GROUPS = {
    "session": "the session runs",
    "batch": "the batch is open",
    "keeper": "no session runs",
}

_WITH_SESSION = (KeeperPhase.SYNCING, KeeperPhase.STOPPING)

_EFFECTS: dict[AnyTrigger, str] = {
    Trigger.START: "fix the upload limit",
    **{trigger: f"batch: {linked}" if linked else "a batch begins" for trigger, linked in LINKED.items()},
    Trigger.CANCEL: "keep the reason",
    Trigger.FAIL: "keep the reason",
    BatchTrigger.SEND: "ask the hub",
    BatchTrigger.RETRY: "back off",
    BatchTrigger.COMMIT: "all of it is stored",
    BatchTrigger.ABORT: "none of it is stored",
    KeeperTrigger.STOP: "no session begins any more",
}


@frozen
class Mark:
    """What a picture of something that happened adds to an edge or a phase."""

    text: str = ""
    weight: Weight = Weight.PLAIN


PLAIN = Mark()


@frozen
class Label:
    """What stands on an arrow: ``trigger [guards] / effect``, and a mark. Several triggers have commas."""

    trigger: str
    guards: tuple[str, ...]
    effect: str | None
    mark: Mark = PLAIN


@frozen
class Arrow:
    """An arrow from ``source``, a phase or the group, and the edges that it stands for."""

    source: str
    target: str
    label: Label
    edges: tuple[Edge, ...]


@frozen
class Box:
    """One phase. ``inside`` are the edges that stay in it, ``mark`` a note that stands under its name."""

    phase: AnyPhase
    kind: Kind
    is_initial: bool
    is_final: bool
    inside: tuple[tuple[Label, Edge], ...]
    mark: Mark = PLAIN


@frozen
class Drawing:
    """A chart ready to be drawn. ``group`` is the frame's title, ``grouped`` what stands in it."""

    name: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    group: str
    grouped: tuple[AnyPhase, ...]
    caption: tuple[str, ...] = ()

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Every edge that the drawing shows, each as often as it shows it."""
        inside = (edge for box in self.boxes for _, edge in box.inside)
        return (*inside, *(edge for arrow in self.arrows for edge in arrow.edges))


@frozen
class Marks:
    """What happened: marks on edges and phases. What is not named gets ``otherwise``."""

    edges: Mapping[Edge, Mark] = field(factory=dict)
    phases: Mapping[AnyPhase, Mark] = field(factory=dict)
    otherwise: Mark = PLAIN
    caption: tuple[str, ...] = ()


GROUP = "running"
"""The group's name as the source of an arrow."""

NO_MARKS = Marks()


def drawing_of(chart: Chart, marks: Marks = NO_MARKS) -> Drawing:
    """Return the drawing of ``chart``, with marks where something happened.

    Shared edges are drawn one by one when there are marks, since each of them has its own.
    """
    grouped = tuple(phase for phase in chart.phases if _is_grouped(chart, phase))
    shared = _shared(chart, grouped) if marks == NO_MARKS else ()
    return Drawing(
        name=chart.name,
        boxes=tuple(_box(chart, phase, marks) for phase in chart.phases),
        arrows=(
            *_own_arrows(chart, {edge for arrow in shared for edge in arrow.edges}, marks),
            *shared,
        ),
        group=_GROUPS.get(chart.name, chart.name),
        grouped=grouped,
        caption=marks.caption,
    )


def _is_grouped(chart: Chart, phase: AnyPhase) -> bool:
    if isinstance(phase, KeeperPhase):
        return not chart.is_final(phase) and phase not in _WITH_SESSION
    is_open_batch = isinstance(phase, BatchPhase)
    return not chart.is_final(phase) and (is_open_batch or phase is not chart.initial)


def _box(chart: Chart, phase: AnyPhase, marks: Marks) -> Box:
    otherwise = Kind.ENDED_OTHERWISE if chart.is_final(phase) else Kind.ACTIVE
    stays = [edge for edge in chart.edges if edge.source is phase and edge.target is phase]
    return Box(
        phase=phase,
        kind=_NOT_ACTIVE.get(phase, otherwise),
        is_initial=phase is chart.initial,
        is_final=chart.is_final(phase),
        inside=tuple((_label(edge, marks.edges.get(edge, marks.otherwise)), edge) for edge in stays),
        mark=marks.phases.get(phase, marks.otherwise),
    )


def _label(edge: Edge, mark: Mark = PLAIN) -> Label:
    guards = tuple(guard.meaning for guard in edge.guards)
    return Label(str(edge.trigger), guards, _EFFECTS.get(edge.trigger), mark)


def _own_arrows(chart: Chart, shared: set[Edge], marks: Marks) -> list[Arrow]:
    """Return the arrows of phases; triggers that lead the same way share one, but for marks."""
    alike: dict[object, list[Edge]] = {}
    for edge in chart.edges:
        if edge.source is not edge.target and edge not in shared:
            way = (edge.source, edge.target, edge.guards, _EFFECTS.get(edge.trigger))
            alike.setdefault(way if marks == NO_MARKS else edge, []).append(edge)
    return [
        Arrow(str(one.source), str(one.target), _label_of(edges, marks), tuple(edges))
        for edges in alike.values()
        for one in edges[:1]
    ]


def _label_of(edges: list[Edge], marks: Marks) -> Label:
    label = _label(edges[0], marks.edges.get(edges[0], marks.otherwise))
    return evolve(label, trigger=", ".join(edge.trigger for edge in edges))


def _shared(chart: Chart, grouped: tuple[AnyPhase, ...]) -> tuple[Arrow, ...]:
    """Return one arrow for the edges that all phases of the group have alike."""
    alike: dict[tuple[object, ...], list[Edge]] = {}
    for edge in chart.edges:
        if edge.source in grouped and edge.target not in grouped:
            alike.setdefault((edge.trigger, edge.target, edge.guards), []).append(edge)
    return tuple(
        Arrow(GROUP, str(edges[0].target), _label(edges[0]), tuple(edges))
        for edges in alike.values()
        if len(edges) == len(grouped)
    )
