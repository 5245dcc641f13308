"""``python -m tests.bench [--quick] [--json FILE] [--page FILE] [WORKLOAD …]``: measure against the limit.

Every workload runs in fresh processes, hub included, and its limit (a bare loop, a bare hub) in the same
run; figures are medians.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from . import device, growth, hub_load, report, transfers
from .plots import write_plots
from .runner import Result
from .sizes import FULL, QUICK, Sizes

Workload = Callable[[Path, Sizes], Iterator[Result]]

WORKLOADS: dict[str, Workload] = {
    "W1": transfers.first_download,
    "W2": transfers.upload,
    "W3": transfers.exchange,
    "W3n": transfers.nothing,
    "W4": device.cancelling,
    "W5": device.tracking,
    "W6": growth.growth,
    "W8": hub_load.hub_load,
    "W9": hub_load.together,
}
"""By name; W6 yields W7 and the memory of W1 at its largest size too, since both need its devices."""


def measure(names: list[str], sizes: Sizes) -> Iterator[Result]:
    """Run the workloads one after the other, each in a folder of its own."""
    for name in names:
        with tempfile.TemporaryDirectory(prefix="statesync-bench-") as folder:
            yield from WORKLOADS[name](Path(folder), sizes)


def main() -> None:
    """Run the workloads that were asked for, and report."""
    asked = _arguments()
    began, results = time.monotonic(), []
    for result in measure(asked.workloads or list(WORKLOADS), QUICK if asked.quick else FULL):
        print("  ".join(report.line(result)), file=sys.stderr, flush=True)
        results.append(result)
    print(report.table(results))
    print(f"{time.monotonic() - began:.0f} seconds")
    if asked.json:
        asked.json.write_text(json.dumps(report.as_json(results), indent=1))
    if asked.page:
        report.into_page(asked.page, results)
        write_plots(results, asked.page.parent / "performance")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=", ".join(WORKLOADS))
    parser.add_argument("--quick", action="store_true", help="small sizes, under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="put table and plots into the documentation"
    )
    asked = parser.parse_args()
    if unknown := set(asked.workloads) - set(WORKLOADS):
        parser.error(f"there is no workload {', '.join(sorted(unknown))}")
    return asked


if __name__ == "__main__":
    main()
