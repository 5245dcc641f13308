"""One measured run in a fresh process: ``python -m tests.bench.child MODULE:FUNCTION ARGUMENTS``."""

from __future__ import annotations

import importlib
import json
import re
import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def main() -> None:
    """Run the function and print its figures, with the process's peak of resident memory in MB."""
    # Peewee imports the hub's PostgreSQL driver, 20 MB, wherever it is installed; a device has none.
    sys.modules["psycopg"] = None  # type: ignore[assignment]
    module, function = sys.argv[1].split(":")
    figures = getattr(importlib.import_module(f".sides.{module}", __package__), function)(
        **json.loads(sys.argv[2])
    )
    print(json.dumps({**figures, "memory": peak_memory()}))


def peak_memory() -> float:
    """Return the peak of resident memory in MB; Linux hands ``ru_maxrss`` down from the parent."""
    if _STATUS.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
        if found:
            return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
