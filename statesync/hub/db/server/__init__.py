"""The hub on a PostgreSQL server: many writers, each of which holds its own space's row alone."""
