"""The command ``statesync``, as it is installed: quiet at Ctrl-C from its first line on.

It is no part of the package ``statesync``, because whoever imports that imports its libraries first, for a
quarter of a second, and a Ctrl-C in there would be a traceback.
"""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line, and exit; with 130, as a shell has it, where Ctrl-C came before it could run."""
    try:
        from statesync.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
