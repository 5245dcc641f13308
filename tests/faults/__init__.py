import pytest

# Their assertions are those of the tests, and should say as much when they fail.
pytest.register_assert_rewrite("tests.faults.checks", "tests.faults.recovery")
