"""A shop on two tills: related models, options, callbacks, and a conflict policy of its own.

Two tills sell from one shelf while they are offline. Both sales count: the stock is merged by what each till
took, not by who came last.
"""

from __future__ import annotations

from pathlib import Path

from peewee import DateTimeField, ForeignKeyField, IntegerField, TextField

from statesync import (
    CancelOptions,
    Conflict,
    ConflictEntry,
    Direction,
    HttpRemote,
    Model,
    NothingToCancel,
    OnProgress,
    PendingChange,
    Phase,
    Policy,
    Progress,
    Record,
    Scope,
    Session,
    State,
    Store,
    SyncError,
    SyncOptions,
    SyncResult,
    merge_fields,
)
from statesync.hub import Hub, HubLimits, prepare, serving


class Article(Model):
    name = TextField()
    stock = IntegerField(default=0)


class Sale(Model):
    article = ForeignKeyField(Article, backref="sales")
    amount = IntegerField()
    at = DateTimeField(null=True)


def count_both(conflict: Conflict) -> Record | None:
    """Take from the stock what both tills took; whatever else differs is merged field by field."""
    merged = merge_fields(conflict)
    base, local, remote = conflict.base, conflict.local, conflict.remote
    if base is None or local is None or remote is None or merged is None or "stock" not in base:
        return merged
    return merged | {"stock": local["stock"] + remote["stock"] - base["stock"]}


class Till:
    """One store on its own file. The models are one till's at a time."""

    def __init__(self, path: Path, address: str, policy: Policy) -> None:
        self.path = path
        self.options = SyncOptions(upload_batch_size=2, conflict_policy=policy, get_sync_stats=True)
        self.remote = HttpRemote(address, space="shop", read_timeout=10)
        self.told: list[str] = []

    def __enter__(self) -> Till:
        self.store = Store(self.path, busy_timeout=2)
        for model in (Article, Sale):
            self.store.track(model)
        self.store.setup()
        self.scope: Scope = self.store.scope(self.remote)
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()
        self.remote.close()

    def sell(self, name: str, amount: int) -> Sale:
        article = Article.get(Article.name == name)
        article.stock -= amount
        article.save()
        return Sale.create(article=article, amount=amount)

    def waiting(self) -> list[str]:
        changes: list[PendingChange] = self.store.pending()
        return [f"{change.operation} {change.object}" for change in changes]

    def sync(self, on_progress: OnProgress | None = None) -> SyncResult:
        session: Session = self.scope.start_sync(
            self.options, self.succeeded, self.failed, on_progress or self.moved
        )
        return session.result(timeout=30)

    def succeeded(self, result: SyncResult) -> None:
        self.told.append(f"{result.phase}: {result.stats.uploaded} up, {result.stats.downloaded} down")

    def failed(self, error: SyncError) -> None:
        self.told.append(f"{error.code} {error.reason}")

    def moved(self, progress: Progress) -> None:
        if progress.state is State.CANCELLING:
            self.told.append("cancelling")

    def conflicts(self) -> list[ConflictEntry]:
        return self.store.conflicts(limit=10)


def open_with_stock(folder: Path, address: str) -> None:
    with Till(folder / "first.db", address, count_both) as first:
        Article.create(name="tea", stock=10)
        first.sync()


def play(folder: Path, address: str) -> None:
    open_with_stock(folder, address)
    with Till(folder / "second.db", address, count_both) as second:
        second.sync()
        second.sell("tea", 3)
        print("second waits:", ", ".join(sorted(second.waiting())))
    with Till(folder / "first.db", address, count_both) as first:
        first.sell("tea", 2)
        first.sync()
        print("first was told:", *first.told)
    with Till(folder / "second.db", address, count_both) as second:
        result = second.sync()
        ways = [batch.direction for batch in result.stats.batches for _ in range(batch.records)]
        print("second:", ways.count(Direction.UPLOAD), "up,", ways.count(Direction.DOWNLOAD), "down")
        for entry in second.conflicts():
            print("conflict:", *(side and side["stock"] for side in (entry.base, entry.local, entry.remote)))
        article = Article.get()
        print(article.name, article.stock, sorted(sale.amount for sale in Sale.select()))
        if result.phase is Phase.DONE:
            cancel_nothing(second.scope)


def cancel_nothing(scope: Scope) -> None:
    def answered(error: SyncError) -> None:
        print("nothing to cancel:", isinstance(error, NothingToCancel))

    scope.cancel_sync(CancelOptions(grace=1.5), on_failure=answered)


def main(folder: Path) -> None:
    url = f"sqlite:///{folder}/hub.db"
    prepare(url)
    hub = Hub(url, without_tokens=True, limits=HubLimits(record=1 << 16))
    with serving(hub) as address:
        play(folder, address)
    hub.close()


if __name__ == "__main__":
    main(Path.cwd())
