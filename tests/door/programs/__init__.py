"""Programs as people write them: they are run, and held against mypy and pyright."""
