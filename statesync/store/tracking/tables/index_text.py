"""The text of an index: what its terms and its condition are, as SQL that can stand elsewhere.

SQLite tells the expressions of an index only in the statement that made it. Reading it takes no more than
knowing where strings, names, comments and parentheses end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""
    (?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z) )
  | (?P<quoted> '(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\] )
  | (?P<word> [^\W\d][\w$]* )
  | (?P<space> \s+ )
  | (?P<sign> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_ORDER = re.compile(r"\s+(?:ASC|DESC)$", re.IGNORECASE)


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
    return [_ORDER.sub("", term.strip()) for term in (*terms, current)], _condition(parts)


def _condition(rest: Iterator[str]) -> str | None:
    text = "".join(rest).strip()
    return text[len("WHERE") :].strip() if text.upper().startswith("WHERE") else None


def _tokens(statement: str) -> Iterator[str]:
    """Yield the parts of a statement, each comment as a space."""
    for found in _TOKEN.finditer(statement):
        yield " " if found.lastgroup == "comment" else found.group()
