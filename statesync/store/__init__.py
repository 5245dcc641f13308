"""The device database: tables, tracking, outbox, pages, verdicts, journal, recovery."""
