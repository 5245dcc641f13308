"""The guide to models does what it says: its examples run, one after the other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from rig.child import on_a_device

GUIDE = Path(__file__).parents[1] / "docs" / "models.md"


def test_the_examples_run_one_after_the_other(tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 4
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(examples)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env=on_a_device(),
    )
    assert (ran.returncode, ran.stderr) == (0, "")
