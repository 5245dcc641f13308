"""``python -m tests.bench.fleet``: many devices at a hub, on a day like any other and on a bad one."""
