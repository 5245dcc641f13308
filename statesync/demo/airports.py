"""The records of the demonstration: every airport of the package ``airportsdata``."""

from __future__ import annotations

from collections.abc import Iterator

import airportsdata
from peewee import CharField, FloatField, chunked

from statesync.scope import Store
from statesync.store.tracking.model import Model

FIELDS = ("icao", "iata", "name", "city", "subd", "country", "elevation", "lat", "lon", "tz")
"""What the package says of an airport, but for ``lid``, which repeats other codes."""

ROWS_A_STATEMENT = 500
"""SQLite takes a bounded number of values a statement."""


def define_airport(store: Store) -> type[Model]:
    """Define the model on ``store``; each device is a program with a model of its own."""

    @store.track
    class Airport(Model):
        icao = CharField(unique=True)
        iata = CharField()
        name = CharField()
        city = CharField()
        subd = CharField()
        country = CharField(index=True)
        elevation = FloatField()
        lat = FloatField()
        lon = FloatField()
        tz = CharField()

    return Airport


def real_airports() -> Iterator[dict[str, object]]:
    """Yield the airports as the package has them."""
    for airport in airportsdata.load("ICAO").values():
        known: dict[str, object] = dict(airport)
        yield {field: known[field] for field in FIELDS}


def load_airports(store: Store, airports: type[Model]) -> int:
    """Insert every airport, as a program does; return how many the table has then."""
    with store.database.atomic():
        for rows in chunked(real_airports(), ROWS_A_STATEMENT):
            airports.insert_many(rows).execute()
    return airports.select().count()
