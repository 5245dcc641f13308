import pytest

# Their assertions are those of the tests, and should say as much when they fail.
pytest.register_assert_rewrite(f"{__name__}.checks", f"{__name__}.recovery")
