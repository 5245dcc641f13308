"""The models of a program that embeds the library, as its tests would give them to the kit."""

from __future__ import annotations

from peewee import (
    BlobField,
    BooleanField,
    CharField,
    DateTimeField,
    FloatField,
    ForeignKeyField,
    IntegerField,
    Model,
    TextField,
)


class Shelf(Model):
    id = CharField(primary_key=True)
    name = TextField(index=True)


class Article(Model):
    id = CharField(primary_key=True)
    name = TextField(null=True)
    count = IntegerField(default=0, index=True)
    price = FloatField(null=True)
    sold = BooleanField(default=False)
    picture = BlobField(null=True)
    seen = DateTimeField(null=True)
    shelf = ForeignKeyField(Shelf, null=True, on_delete="CASCADE")
