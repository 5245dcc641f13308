"""Conflicts: a policy is asked, what it keeps is stored, and what waits is settled by the program."""
