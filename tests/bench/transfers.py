"""W1, W2, W3, W3n: what a sync costs against the bare loop, over one and the same hub."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

from .hubs import Writer, hub
from .runner import Result, by_turns, run
from .sides.records import keys
from .sizes import Sizes


def first_download(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W1: everything into an empty device, with random and with ordered keys."""
    for order in sizes.orders:
        with hub(f"sqlite:///{folder}/w1-{order}.db") as port:
            Writer(port, "w1").fill(order, sizes.records)

            def one(side: str, port: int = port) -> dict[str, float]:
                device = folder / f"{uuid.uuid4()}.db"
                figures = run(f"{side}:download", path=str(device), port=port, space="w1", limit=1000)
                remove(device)
                return figures

            ours, bare = by_turns(sizes.repeat, lambda _: one("ours"), lambda _: one("bare"))
        details = {"cpu": ours["cpu"] / bare["cpu"], "memory": ours["memory"], "bare memory": bare["memory"]}
        yield _result("W1", f"first download of {sizes.records:,}, {order} keys", ours, bare, 1.25, details)
        yield Result(
            "W1", f"resident memory, {order} keys", ours["memory"], 64.0, "MB", ours["memory"] / 64, 1.0
        )


def upload(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W2: local records go up, with random and with ordered keys."""
    for order in sizes.orders:
        with hub(f"sqlite:///{folder}/w2-{order}.db") as port:

            def one(side: str, order: str = order, port: int = port) -> dict[str, float]:
                device, space = folder / f"{uuid.uuid4()}.db", str(uuid.uuid4())
                figures = run(
                    f"{side}:upload",
                    path=str(device),
                    port=port,
                    space=space,
                    limit=1000,
                    order=order,
                    count=sizes.uploads,
                )
                remove(device)
                return figures

            ours, bare = by_turns(sizes.repeat, lambda _: one("ours"), lambda _: one("bare"))
        details = {"cpu": ours["cpu"] / bare["cpu"], "memory": ours["memory"]}
        yield _result("W2", f"upload of {sizes.uploads:,}, {order} keys", ours, bare, 1.3, details)
        yield Result(
            "W2", f"its processor time, {order} keys", ours["cpu"], bare["cpu"], "s", details["cpu"], 2.0
        )


def exchange(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W3: a thousand changes on each side of a device that has everything, in one sync."""
    with hub(f"sqlite:///{folder}/w3.db") as port:
        writers = {side: Writer(port, f"w3-{side}") for side in ("ours", "bare")}
        known = list(keys("random", sizes.records))
        for side, writer in writers.items():
            writer.fill("random", sizes.records)
            run(f"{side}:download", path=f"{folder}/w3-{side}.db", port=port, space=writer.space, limit=1000)

        def one(side: str, number: int) -> dict[str, float]:
            writers[side].change(some_of(known, number), number)
            return run(
                f"{side}:exchange",
                path=f"{folder}/w3-{side}.db",
                port=port,
                space=writers[side].space,
                limit=1000,
                changes=1000,
                among=sizes.records,
                seed=number,
            )

        ours, bare = by_turns(sizes.often, lambda n: one("ours", n), lambda n: one("bare", n))
    details = {"cpu": ours["cpu"] / bare["cpu"], "moved": ours["records"], "bare moved": bare["records"]}
    yield _result("W3", f"1000 changes on each side of {sizes.records:,}", ours, bare, 2.0, details)


def nothing(folder: Path, sizes: Sizes) -> Iterator[Result]:
    """W3n: a sync with nothing to do against what it cannot do without: a request and two durable commits."""
    with hub(f"sqlite:///{folder}/w3n.db") as port:
        Writer(port, "w3n").fill("random", 1000)

        def one(target: str, number: int) -> dict[str, float]:
            path = f"{folder}/w3n-{target[:4]}-{number}.db"
            return run(target, path=path, port=port, space="w3n", limit=1000, repeat=sizes.syncs)

        ours, bare = by_turns(
            sizes.repeat, lambda n: one("ours:nothing", n), lambda n: one("bare:request", n)
        )
    mine, least = ours["seconds"] * 1000, (bare["seconds"] + bare["commits"]) * 1000
    details = {"request": bare["seconds"] * 1000, "two durable commits": bare["commits"] * 1000}
    what = "a sync with nothing to do, beside its request and two durable commits"
    yield Result("W3n", what, mine, least, "ms", mine / least, 2.5, details)


def some_of(known: list[str], number: int) -> list[str]:
    """Return a thousand keys here and there, of the records that ``bare.change_some`` leaves alone."""
    first_and_third = known[::2]  # a device gives them odd row ids, as they come in this order
    stride = len(first_and_third) // 1000
    return first_and_third[number % stride :: stride][:1000]


def remove(database: Path) -> None:
    """Delete a database and what lies beside it."""
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()


def _result(
    workload: str,
    what: str,
    ours: dict[str, float],
    bare: dict[str, float],
    reach: float,
    details: dict[str, float],
) -> Result:
    mine, theirs = ours["seconds"], bare["seconds"]
    return Result(workload, what, mine, theirs, "s", mine / theirs, reach, details)
