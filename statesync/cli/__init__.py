"""The command line. ``main`` is the command ``statesync``; its commands are listed in ``commands.py``."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line on the program's arguments and exit: 0 done, 1 failed, 2 usage, 130 Ctrl-C."""
    try:
        from statesync.cli.commands import commands

        commands.main(prog_name="statesync")
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.stderr.write("statesync: the command line is an extra; run: pip install 'statesync[cli]'\n")
        sys.exit(2)
    except KeyboardInterrupt:  # before a command has begun, or after it
        sys.exit(130)
