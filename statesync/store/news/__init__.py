"""What came in: after each commit, the keys of records that were stored and deleted, for who observes."""
