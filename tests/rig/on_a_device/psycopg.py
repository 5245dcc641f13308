"""A device has no driver of PostgreSQL; where there is one, Peewee imports it: 75 ms for each process."""

raise ImportError("a device has no driver of PostgreSQL")
