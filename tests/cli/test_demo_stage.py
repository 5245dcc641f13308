"""The demonstration's hub counts every record that it sends: the story tells of the wire by this count."""

from __future__ import annotations

from pathlib import Path

from statesync.demo.airports import FIELDS
from statesync.demo.stage import staged


def test_each_record_that_is_sent_to_a_device_is_counted_once(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        a, b = stage.device("A"), stage.device("B")
        texts = {name: 0.0 if name in ("elevation", "lat", "lon") else name for name in FIELDS}
        for number in range(3):
            a.airports.create(**texts | {"icao": f"K{number}"})
        a.scope.sync()
        b.scope.sync()
        assert b.count() == 3
        assert sorted(stage.hub.keys_sent_to(b)) == sorted(b.records())
        assert stage.hub.keys_sent_to(a) == []
