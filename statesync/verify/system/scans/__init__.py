"""Reading from the start by scans in the system model: what it begins with, and what must hold of it."""
