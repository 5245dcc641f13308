"""What the values of options must be; whatever is not is ``BadOptions``, in words that name the option."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction
from typing import Any

from attrs import Attribute

from statesync.conflicts import POLICIES, Policy, policy_of
from statesync.errors import BadOptions
from statesync.filters import MOST_FIELDS, MOST_VALUES, Filter, excess

LARGEST = (1 << 63) - 1
"""The largest whole number that a database, and a number on the wire, can be."""

LONGEST_WAIT = 1e9
"""Seconds that anybody waits at a time, some thirty years: a system can wait for no endless time."""


def is_utf8(text: str) -> bool:
    """Tell whether a text can be written at all: one of odd bytes from outside cannot."""
    return text.isascii() or text == text.encode("utf-8", "replace").decode()


def kind_of(value: object) -> str:
    """Return what a value is, without what is in it: that may be a record, or a secret."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def check_kind(name: str, value: object, kind: type | tuple[type, ...], what: str) -> None:
    """Raise ``BadOptions`` for what is none of a ``kind``, which is ``what`` in words."""
    if not isinstance(value, kind):
        raise BadOptions(f"{name} must be {what}, not {kind_of(value)}")


def check_remote(remote: object) -> None:
    """Raise ``BadOptions`` for what cannot be asked to push and to pull."""
    if isinstance(remote, type) or not all(hasattr(remote, name) for name in ("space", "push", "pull")):
        raise BadOptions(
            "the remote must be an HttpRemote, or what has space, push() and pull() as it has, "
            f"not {kind_of(remote)}"
        )


def check_callbacks(**callbacks: object) -> None:
    """Raise ``BadOptions`` for a callback that is given and is none."""
    for name, value in callbacks.items():
        if value is not None:
            check_callback(name, value)


def check_callback(name: str, value: object) -> None:
    """Raise ``BadOptions`` for what cannot be called, and for a coroutine, which nobody would wait for."""
    if not callable(value):
        raise BadOptions(f"{name} must be a function, not {kind_of(value)}")
    if iscoroutinefunction(value):
        raise BadOptions(f"{name} must be a function, and not a coroutine: it is called in a thread")


def check_count(name: str, value: object, least: int) -> None:
    """Raise ``BadOptions`` for what is no whole number of at least ``least`` that a database can be given."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadOptions(f"{name} must be a whole number of at least {least}, not {value!r}")
    if value > LARGEST:
        raise BadOptions(f"{name} must be a whole number of at most {LARGEST}")


def at_least(least: int) -> Callable[[Any, Attribute[Any], Any], None]:
    """Return the check of an option that is a whole number of at least ``least``."""

    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        check_count(attribute.name, value, least)

    return check


def as_policy(value: object) -> Policy:
    """Return the policy that an option names or is."""
    chosen = POLICIES.get(value) if isinstance(value, str) else value
    if callable(chosen):
        try:
            return policy_of(chosen)
        except ValueError as error:
            raise BadOptions(f"conflict_policy: {error}") from None
    raise BadOptions(
        f"conflict_policy must be one of {', '.join(POLICIES)}, or a callable that takes a Conflict, "
        f"not {value!r}"
    )


def check_timeout(name: str, value: object) -> None:
    """Raise ``BadOptions`` for what is no number of seconds from 0."""
    if not (isinstance(value, int | float) and _is_seconds(value) and value >= 0):
        raise BadOptions(f"{name} must be a number of seconds from 0, not {value!r}")


def is_timeout(_: Any, attribute: Attribute[Any], value: Any) -> None:
    """Check an option that is seconds above 0, or None."""
    if value is not None and not (_is_seconds(value) and value > 0):
        raise BadOptions(f"{attribute.name} must be a number of seconds above 0 or None, not {value!r}")


def is_grace(_: Any, attribute: Attribute[Any], value: Any) -> None:
    """Check an option that is seconds from 0, or None."""
    if value is not None and not (_is_seconds(value) and value >= 0):
        raise BadOptions(f"{attribute.name} must be a number of seconds from 0 or None, not {value!r}")


def _is_seconds(value: object) -> bool:
    """Tell whether a value can be added to a time; an endless one can."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= LARGEST)


def as_wait(timeout: float | None) -> float | None:
    """Return the seconds that a caller wants to wait, as the system can; None: for ever.

    Raises ``BadOptions`` for what is no number of seconds: one that is none would be waited for without end.
    """
    if timeout is None:
        return None
    if not _is_seconds(timeout) or timeout != timeout:
        raise BadOptions(f"timeout must be a number of seconds or None, not {timeout!r}")
    return min(timeout, LONGEST_WAIT)


def seconds_of(least: float, most: float) -> Callable[[Any, Attribute[Any], Any], None]:
    """Return the check of an option that is seconds from ``least`` to ``most``."""

    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and least <= value <= most):
            raise BadOptions(
                f"{attribute.name} must be a number of seconds from {least} to {most}, not {value!r}"
            )

    return check


def is_yes_or_no(_: Any, attribute: Attribute[Any], value: Any) -> None:
    """Check an option that is True or False: a text that says no is no False."""
    check_yes_or_no(attribute.name, value)


def check_yes_or_no(name: str, value: object) -> None:
    """Raise ``BadOptions`` for what is neither True nor False."""
    if not isinstance(value, bool):
        raise BadOptions(f"{name} must be True or False, not {value!r}")


def as_filters(value: Any) -> dict[str, Filter]:
    """Return the filters that an option says, by the names of objects."""
    if not isinstance(value, Mapping) or not all(isinstance(one, Mapping | Filter) for one in value.values()):
        raise BadOptions(f"filter must map an object's name to {{field: value or values}}, not {value!r}")
    try:
        found = {name: one if isinstance(one, Filter) else Filter.of(one) for name, one in value.items()}
    except ValueError as error:
        raise BadOptions(str(error)) from None
    for name, one in found.items():
        if too_much := excess(dict(one.fields), MOST_FIELDS, MOST_VALUES):
            raise BadOptions(f"the filter of {name} {too_much}")
    return found
