"""The store's own tables: how each format of them looks, and how a file is brought to the newest."""
