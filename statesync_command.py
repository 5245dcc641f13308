"""The command ``statesync``, as it is installed: quiet at Ctrl-C from its first line on.

It is no part of the package ``statesync``, because whoever imports that imports its libraries first, for a
quarter of a second, and a Ctrl-C in there would be a traceback, or be lost: Python drops what is raised in a
callback of the import system.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

_INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, as a shell has it."""


def main() -> NoReturn:
    """Run the command line, and exit; with 130 where Ctrl-C came before it could run."""
    is_heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heeded:
        signal.signal(signal.SIGINT, _end_at_once)
    from statesync.cli import main as run

    try:
        if is_heeded:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _end_at_once(_number: int, _frame: object) -> NoReturn:
    """End the process: nothing has begun yet that would have to be brought to an end."""
    os._exit(_INTERRUPTED)
