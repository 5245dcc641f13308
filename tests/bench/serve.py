"""A hub in a process of its own: ``python -m tests.bench.serve URL KIND`` prints its port and serves.

It ends with its standard input, so it cannot be left behind.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, closing

from statesync.hub import Hub, prepare, serving


def main() -> None:
    """Serve the hub, or with the kind ``bare`` its hand-written equivalent, until the input ends."""
    url, kind = sys.argv[1:]
    if kind == "hub":
        prepare(url)
        with closing(Hub(url, without_tokens=True)) as hub:
            _serve(serving(hub))
    else:
        from .sides.bare_hub import serving_bare

        _serve(serving_bare(url))


def _serve(served: AbstractContextManager[str]) -> None:
    with served as address:
        print(address.rpartition(":")[2], flush=True)
        sys.stdin.read()


main()
