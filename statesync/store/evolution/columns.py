"""New columns of a model: ``setup()`` adds those that it has a value for, and names the others."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, cast

from peewee import Field, ForeignKeyField, Model, ModelIndex

from statesync.errors import UnsupportedModel
from statesync.store.tracking.describe import computed_defaults, constant_default
from statesync.store.tracking.quoting import literal, quoted
from statesync.store.tracking.tables.table import Table
from statesync.store.tracking.triggers import switched_off


def add_missing(
    connection: sqlite3.Connection, model: type[Model], table: Table, *, is_older: bool
) -> Sequence[str]:
    """Add the columns that a model has and its table has not; return their names. In a transaction.

    ``is_older`` says that a newer version of the program has changed the file: then it is that version which
    has taken a column away. Raises ``UnsupportedModel`` for columns without a value for known records.
    """
    missing = [one for one in model._meta.sorted_fields if table.column(one.column_name) is None]
    missing = [one for one in missing if not one.primary_key]
    if not missing:
        return ()
    if is_older:
        raise UnsupportedModel(
            f"{_lacks(model, table, missing)}. A newer version of this program has changed the file "
            f"(its migrations "
            "are more than this one's): use that version"
        )
    unknown = [one for one in missing if not _has_value(one)]
    if unknown:
        raise UnsupportedModel(
            f"{_lacks(model, table, unknown)}. Give the field a default or null=True, and setup() adds "
            f"the column; "
            f"or add it in a migration: setup(migrations=[…, {_step(table, unknown[0])}])"
        )
    with switched_off(connection):
        for field in missing:
            connection.execute(
                f"ALTER TABLE main.{quoted(table.name)} ADD COLUMN {_declaration(model, field)}"
            )
        _fill(connection, model, missing)
    for statement in _indexes(model, missing):
        connection.execute(statement)
    return [one.column_name for one in missing]


def _lacks(model: type[Model], table: Table, fields: Sequence[Field]) -> str:
    names = ", ".join(field.column_name for field in fields)
    return f"{model.__name__} does not fit its table {table.name}, which lacks the column {names}"


def _step(table: Table, field: Field) -> str:
    kind = type(field).__name__
    return f"lambda migrator: migrator.add_column({table.name!r}, {field.column_name!r}, {kind}(default=…))"


def _has_value(field: Field) -> bool:
    """Tell whether known records can get a value in a new column; one for all is no unique one."""
    if field.default is None:
        return field.null or _has_default_in_sql(field)
    return not field.unique or callable(field.default)


def _has_default_in_sql(field: Field) -> bool:
    return any("DEFAULT" in str(getattr(one, "sql", one)).upper() for one in field.constraints or ())


def _declaration(model: type[Model], field: Field) -> str:
    """Return the column as SQL. A program that does not know it writes records with the default."""
    schema: Any = cast(Any, model)._schema
    context = schema._create_context()
    declared, _ = context.sql(field.ddl(context)).query()
    default = constant_default(field)
    if default is not None and not _has_default_in_sql(field):
        declared += f" DEFAULT {literal(default)}"
    if isinstance(field, ForeignKeyField):
        declared += (
            f" REFERENCES {quoted(field.rel_model._meta.table_name)} ({quoted(field.rel_field.column_name)})"
        )
        declared += f" ON DELETE {field.on_delete}" if field.on_delete else ""
        declared += f" ON UPDATE {field.on_update}" if field.on_update else ""
    return str(declared)


def _fill(connection: sqlite3.Connection, model: type[Model], fields: Sequence[Field]) -> None:
    """Give each known record a value of its own where the model computes them."""
    names = {field.column_name for field in fields}
    table, key = quoted(model._meta.table_name), quoted(cast(Field, model._meta.primary_key).column_name)
    for name, compute in computed_defaults(model).items():
        if name in names:
            keys = connection.execute(f"SELECT {key} FROM main.{table}").fetchall()
            connection.executemany(
                f"UPDATE main.{table} SET {quoted(name)} = ? WHERE {key} = ?",
                [(compute(), one) for (one,) in keys],
            )


def _indexes(model: type[Model], fields: Sequence[Field]) -> Iterator[str]:
    """Yield the statements that make the indexes of new columns."""
    schema: Any = cast(Any, model)._schema
    for index in model._meta.fields_to_index():
        if isinstance(index, ModelIndex) and any(part in fields for part in cast(Any, index)._expressions):
            statement, _ = schema._create_index(index, safe=True).query()
            yield str(statement)
