"""The text of an index: what its terms and its condition are, as SQL that can stand elsewhere.

SQLite tells the expressions of an index only in the statement that made it. Reading it takes no more than
knowing where strings, names, comments and parentheses end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

_PARTS = r"""
    (?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z) )
  | (?P<quoted> '(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\] )
  | (?P<word> [^\W\d][\w$]* )
  | (?P<space> \s+ )
  | (?P<sign> . )
"""
"""Compiled when it is first used: few indexes have expressions."""
_MAY_FAIL = frozenset({"MATCH", "REGEXP", "LIKE", "GLOB", "COLLATE", "RAISE"})
_TAKE_ANYTHING = frozenset(
    {"AND", "OR", "NOT", "IN", "IS", "BETWEEN", "CASE", "WHEN", "THEN", "ELSE", "CAST", "COALESCE", "IFNULL"}
    | {"NULLIF", "LENGTH", "LOWER", "UPPER", "SUBSTR", "TRIM", "LTRIM", "RTRIM", "TYPEOF", "INSTR", "REPLACE"}
)
"""Words that may stand before a parenthesis in an expression that never fails."""
_SIGNS = frozenset("(,+-*/%|&<>=!~.")
_ORDER = r"\s+(?:ASC|DESC)$"


def terms_and_condition(statement: str) -> tuple[list[str], str | None]:
    """Return the terms of a CREATE INDEX statement, without their order, and its WHERE condition."""
    terms, depth, current = [], 0, ""
    parts = _tokens(statement)
    for part in parts:
        if part == "(":
            depth += 1
            if depth == 1:
                continue
        elif part == ")":
            depth -= 1
            if depth == 0:
                break
        if part == "," and depth == 1:
            terms.append(current)
            current = ""
        elif depth:
            current += part
    return [re.sub(_ORDER, "", term.strip(), flags=re.IGNORECASE) for term in (*terms, current)], _condition(
        parts
    )


def can_fail(expression: str) -> bool:
    """Tell whether an expression may fail for some values, or where functions of the program's are missing.

    So it is of all but the plainest: operators, and those functions of SQLite's own that take any value.
    """
    parts = [part for part in _tokens(expression) if not part.isspace()]
    if any(part.upper() in _MAY_FAIL for part in parts) or "->" in "".join(parts):
        return True
    return any(
        following == "(" and part[0] not in _SIGNS and part.upper() not in _TAKE_ANYTHING
        for part, following in pairwise(parts)
    )


def _condition(rest: Iterator[str]) -> str | None:
    text = "".join(rest).strip()
    return text[len("WHERE") :].strip() if text.upper().startswith("WHERE") else None


def _tokens(statement: str) -> Iterator[str]:
    """Yield the parts of a statement, each comment as a space."""
    for found in re.finditer(_PARTS, statement, re.VERBOSE | re.DOTALL):
        yield " " if found.lastgroup == "comment" else found.group()
