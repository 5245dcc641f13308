"""The journal: sessions, their batches, and every transition that was taken, in the order it was taken.

It alone owns ``statesync_session``, ``statesync_batch``, ``statesync_transition`` and ``statesync_payload``.
"""
