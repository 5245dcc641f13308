"""The outbox: net changes that the hub has not accepted yet. It alone owns ``statesync_change``.

Writes are logged by triggers. ``fold`` turns the log into one net change a record. Whoever acts on the
outbox, or moves a cursor, folds first. So a change's base version is the object's cursor at the time of the
write: what this device had seen of the hub when the record was first changed. Base 0 is kept for records
that, as far as this device knows, no hub has ever seen. Base 1 is a known record of unknown version.
"""
