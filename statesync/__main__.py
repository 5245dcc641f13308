"""``python -m statesync`` is the command ``statesync``."""

from statesync.cli import main

main()
