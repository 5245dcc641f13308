"""What whoever runs the hub can do about a database that cannot be used, by what its error says."""

from __future__ import annotations

import sqlite3

from statesync.hub.db.failures import native_of

_ADDRESS = "check its address, and that its server runs"
_LOGIN = "check its address, the user and the password, and that the server lets them in"
_CROWDED = "let the server take more connections (max_connections, or the role's limit), or use fewer"
_HELD = "others hold its tables for too long; try again when they have ended"
_RIGHTS = "give the hub's user the rights to its schema and to all of its tables"
_READ_ONLY = "make the file and its folder writable, or give the address of a server that takes writes"
_SPACE = "free some space on its disk, and try again"

_BY_SQLITE = {
    sqlite3.SQLITE_CANTOPEN: "check its address: it has to be a SQLite database in a folder that exists, and "
    "both open to who runs the hub; or let the hub have more files open (ulimit -n)",
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_BUSY: _HELD,
    sqlite3.SQLITE_LOCKED: _HELD,
    sqlite3.SQLITE_FULL: _SPACE,
    sqlite3.SQLITE_IOERR: "check its disk, and how long files may become (ulimit -f)",
    sqlite3.SQLITE_NOTADB: "check its address: it has to be a SQLite database",
    sqlite3.SQLITE_CORRUPT: "check its address, or restore it from a backup",
}
"""By the lowest byte of SQLite's error code."""

_BY_SQLSTATE = {
    "25006": _READ_ONLY,
    "28000": _LOGIN,
    "28P01": _LOGIN,
    "3D000": "check its address, or make the database first, with: createdb",
    "3F000": "let its search_path name a schema that is there, or make that schema first",
    "42501": _RIGHTS,
    "53100": _SPACE,
    "53300": _CROWDED,
    "55P03": _HELD,
    "57014": _HELD,
}

# Where a server takes no connection, only words say why.
_BY_WORDS = (
    ("too many c", _CROWDED),
    ("connection slots", _CROWDED),
    ("password", _LOGIN),
    ("pg_hba.conf", _LOGIN),
    ("role ", _LOGIN),
    ("does not exist", _BY_SQLSTATE["3D000"]),
    ("timeout expired", f"the server does not answer: {_ADDRESS}"),
)

_NO_TABLE = ("no such table", "42P01")
"""How either database says that a table is missing."""


def lacks_table(error: BaseException) -> bool:
    """Tell whether a database is one, and has not the table that was asked for."""
    native = native_of(error)
    return _NO_TABLE[0] in str(native) or getattr(native, "sqlstate", None) == _NO_TABLE[1]


def what_to_do(error: BaseException) -> str:
    """Return what whoever runs the hub can do about an error of its database."""
    native = native_of(error)
    if isinstance(native, sqlite3.Error):
        code = getattr(native, "sqlite_errorcode", 0) & 0xFF
        return _BY_SQLITE.get(code, "check its address: it leads to a database that is no hub's")
    state = getattr(native, "sqlstate", None)
    if state is not None:
        return _BY_SQLSTATE.get(state, _ADDRESS)
    return next((advice for words, advice in _BY_WORDS if words in str(native)), _ADDRESS)
