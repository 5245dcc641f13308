"""What a hub that reads in the order of keys has to answer (``docs/internals.md``, reading from the start).

A hub says that it can by answering ``scans`` where it is asked for them. One that cannot answers the page of
the feed, and nothing else of this is asked of it.
"""

from __future__ import annotations

from statesync.testing.peer import Peer, refusal_of
from statesync.wire import Scan

_KEYS = ["A", "Z", "a", "b", "c", "\u00e9", "\u65e5", "\uffff", "\U0001f600"]
"""In the order of their bytes as UTF-8, which is that of their code points."""


class ScanConformance:
    """Holds a hub to its scans. A part of ``RemoteConformance``, which gives it ``peer()``."""

    def peer(self) -> Peer:
        """Return a new device with a remote of its own."""
        raise NotImplementedError("give the conformance test a peer()")

    def test_a_read_from_the_start_amid_writes_has_in_the_end_what_there_is(self) -> None:
        """By scans or without: what came meanwhile, before the position or behind it, comes with the feed."""
        for limit in (1, 2, 5, 0):
            writer, reader = self.peer(), self.peer()
            writer.pull_all()
            writer.push(*(writer.upsert(key, {"n": limit}) for key in reversed(_KEYS)))
            reader.scan(limit)
            writer.push(
                writer.upsert("A", {"n": "edited"}),
                writer.upsert("\U0001f600", {"n": "edited"}),
                writer.delete("\u65e5"),
                writer.upsert("aa", {"n": "new"}),
                writer.upsert("\U0001f601", {"n": "new"}),
            )
            while reader.is_scanning:
                reader.scan(limit)
            reader.pull_all(limit)
            expected: dict[str, dict[str, object]] = {key: {"n": limit} for key in _KEYS if key != "\u65e5"}
            expected |= {"A": {"n": "edited"}, "\U0001f600": {"n": "edited"}}
            assert reader.held == expected | {"aa": {"n": "new"}, "\U0001f601": {"n": "new"}}
            writer.push(*(writer.delete(key) for key in [*expected, "aa", "\U0001f601"]))

    def test_a_scan_has_its_records_in_the_order_of_their_bytes_whatever_the_page(self) -> None:
        """No key is told twice, none is left out, and no page has more records than were asked for."""
        if not self._has_nine():
            return
        for limit in (1, 2, 4, 9, 0):
            reader, keys = self.peer(), list[str]()
            while reader.is_scanning:
                entries = reader.scan(limit).changes
                assert not limit or len(entries) <= limit
                keys += [entry.key for entry in entries]
            assert keys == _KEYS

    def test_a_scan_goes_on_from_its_position_also_if_it_is_asked_twice(self) -> None:
        """Where it began, and its end, stay what they were; each page comes further than the one before."""
        if not self._has_nine():
            return
        reader, positions = self.peer(), list[str]()
        since, until = None, None
        while reader.is_scanning:
            again = reader.remote.pull(reader.scan_request(2)).changes
            page = reader.scan(2)
            scanned = page.scans[reader.object]
            assert [entry.key for entry in again] == [entry.key for entry in page.changes]
            since, until = since or scanned.since, until or scanned.until
            assert (scanned.since, scanned.until) == (since, until)
            assert page.more or scanned.done
            positions.append(scanned.last)
        assert positions == sorted(set(positions))
        assert positions[-1] == until
        assert reader.cursor == since

    def test_what_is_newer_than_its_scan_is_told_by_its_key_alone(self) -> None:
        """Whoever has written it, the asker too: the feed leaves out what a device has written itself."""
        if not (writer := self._has_nine()):
            return
        reader = self.peer()
        reader.scan(2)
        writer.push(writer.upsert("\u65e5", {"n": "edited"}))
        reader.push(reader.upsert("\uffff", {"n": "edited here"}, base=writer.cursor + 1))
        told, stubs = list[str](), list[str]()
        while reader.is_scanning:
            page = reader.scan(2)
            told += [entry.key for entry in page.changes]
            stubs += page.scans[reader.object].stubs
            assert all(entry.version <= page.scans[reader.object].since for entry in page.changes)
        assert (stubs, {"\u65e5", "\uffff"} & {*told}) == (["\u65e5", "\uffff"], set())

    def test_a_scan_looks_at_nothing_beyond_its_end_and_tells_no_deletes(self) -> None:
        """Or it would never end while others add keys that grow with time."""
        if not (writer := self._has_nine()):
            return
        reader = self.peer()
        reader.scan(2)
        writer.push(writer.delete("c"), *(writer.upsert(f"\U0001f601{n}", {}) for n in range(5)))
        told, stubs = list[str](), list[str]()
        while reader.is_scanning:
            page = reader.scan(2)
            told += [entry.key for entry in page.changes]
            stubs += page.scans[reader.object].stubs
        assert told == ["a", "b", "\u00e9", "\u65e5", "\uffff", "\U0001f600"]
        assert not any(key > "\U0001f600" or key == "c" for key in stubs)

    def test_what_a_device_has_written_itself_is_spared_where_it_asks_for_that(self) -> None:
        """It is told by its key, and not left out: what is not shown is gone."""
        if not self._has_nine():
            return
        reader = self.peer()
        reader.push(reader.upsert("bb", {"mine": True}))
        page = reader.remote.pull(reader.scan_request(spares=True))
        assert page.scans[reader.object].stubs == ["bb"]
        assert [entry.key for entry in page.changes] == _KEYS

    def test_a_scan_of_nothing_is_done_at_once(self) -> None:
        """Its end is no key."""
        reader = self.peer()
        page = reader.scan()
        if page.scans:
            scanned = page.scans[reader.object]
            assert (scanned.done, scanned.until, page.more, page.changes) == (True, "", False, [])

    def test_a_position_that_no_scan_can_have_is_refused(self) -> None:
        """One that goes on has an end, and is not behind it."""
        if not self._has_nine():
            return
        reader = self.peer()
        since = reader.scan(2).scans[reader.object].since
        for wrong in (Scan(since, "c", "b"), Scan(since, "c", ""), Scan(0, "c", "d")):
            assert refusal_of(reader.remote.pull, reader.scan_request(scan=wrong)) == "malformed"

    def _has_nine(self) -> Peer | None:
        """Give the hub the nine records, and return who wrote them; None if it knows no scans."""
        writer = self.peer()
        writer.push(*(writer.upsert(key, {"n": key}) for key in reversed(_KEYS)))
        writer.pull_all()
        return writer if self.peer().scan(1).scans else None
