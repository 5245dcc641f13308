"""Charts as texts that no layout is needed for: a markdown table, and SCXML for other programs."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from statesync.lifecycle import LINKED, AnyPhase, AnyTrigger, Chart, Guard, Trigger


def markdown(chart: Chart) -> str:
    """Return ``chart`` as a markdown table of every trigger in every phase, and the guards in words.

    A cell names the phase that the trigger leads to and the guards by number; a dash is illegal.
    """
    guards = _guards(chart)
    numbers = {guard.name: number for number, guard in enumerate(guards, start=1)}
    head = ["trigger \\ phase", *(_title(chart, phase) for phase in chart.phases)]
    rows = [
        [f"`{trigger}`", *(_cell(chart, phase, trigger, numbers) for phase in chart.phases)]
        for trigger in chart.triggers
    ]
    table = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    words = [f"{number}. `{guard.name}`: {guard.meaning}" for number, guard in enumerate(guards, start=1)]
    legend = "A dash is illegal. Bold phases are ends. A trigger is taken only if its numbered guards hold:"
    return "\n".join([*table, "", legend, "", *words]) + "\n"


def _guards(chart: Chart) -> tuple[Guard, ...]:
    return tuple(dict.fromkeys(guard for edge in chart.edges for guard in edge.guards))


def _title(chart: Chart, phase: AnyPhase) -> str:
    return f"**{phase}**" if chart.is_final(phase) else str(phase)


def _cell(chart: Chart, phase: AnyPhase, trigger: AnyTrigger, numbers: dict[str, int]) -> str:
    said = []
    for edge in chart.edges_of(phase, trigger):
        target = "stays" if edge.target is phase else f"→ {_title(chart, edge.target)}"
        guards = ", ".join(str(numbers[guard.name]) for guard in edge.guards)
        said.append(f"{target} [{guards}]" if guards else target)
    return "<br>".join(said) or "-"


def scxml(chart: Chart) -> str:
    """Return ``chart`` as SCXML. Guards are data of the document, for its reader to set.

    A linked trigger raises the batch chart's event; an edge that stays has no target, so that nothing is
    left or entered.
    """
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0" name={quoteattr(chart.name)} '
        f'datamodel="ecmascript" initial={quoteattr(str(chart.initial))}>',
        "  <datamodel>",
        *(f'    <data id="{guard.name}" expr="false"/> <!-- {guard.meaning} -->' for guard in _guards(chart)),
        "  </datamodel>",
    ]
    for phase in chart.phases:
        lines += [f'  <final id="{phase}"/>'] if chart.is_final(phase) else _scxml_state(chart, phase)
    return "\n".join([*lines, "</scxml>"]) + "\n"


def _scxml_state(chart: Chart, phase: AnyPhase) -> list[str]:
    lines = [f'  <state id="{phase}">']
    for edge in chart.edges:
        if edge.source is phase:
            target = "" if edge.target is phase else f' target="{edge.target}"'
            cond = " &amp;&amp; ".join(guard.name for guard in edge.guards)
            event = f'    <transition event="{edge.trigger}"{target}' + (f' cond="{cond}"' if cond else "")
            raised = LINKED.get(edge.trigger) if isinstance(edge.trigger, Trigger) else None
            lines.append(event + (f'><raise event="batch.{raised}"/></transition>' if raised else "/>"))
    return [*lines, "  </state>"]
