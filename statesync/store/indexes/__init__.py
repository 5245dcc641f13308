"""Indexes that are not kept while an empty table is filled: which they are, and how they are built again."""
