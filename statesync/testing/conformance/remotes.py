"""Test classes to subclass for a remote or a server of one's own: does it speak as a hub has to?

Pytest runs every ``test_…`` method of a subclass. Nothing of the client's or the hub's code is in between:
requests are made here, and answers compared, as section 6 of the design has them.
"""

from __future__ import annotations

from statesync.remote import Remote
from statesync.testing.conformance.scans import ScanConformance
from statesync.testing.peer import Peer, read, refusal_of
from statesync.wire import (
    CLIENT_FORKED,
    EPOCH_CHANGED,
    HORIZON_PASSED,
    MAX_KEY_LENGTH,
    MAX_VERSION,
    WRONG_HUB,
    Accepted,
    Conflicted,
    Rejected,
)


class RemoteConformance(ScanConformance):
    """Holds a remote, and the hub behind it, to what a session needs of them.

    Give it ``remote()``: a new remote of the same empty space each time it is called within one test, with
    the right to read and write. ``object`` is the name of an object that the hub takes::

        class TestMyRemote(RemoteConformance):
            @pytest.fixture(autouse=True)
            def _hub(self, tmp_path):
                self.hub = start_my_hub(tmp_path)

            def remote(self):
                return MyRemote(self.hub.address)
    """

    object: str = "Thing"

    def remote(self) -> Remote:
        """Return a new remote of the test's space."""
        raise NotImplementedError("give the conformance test a remote()")

    def peer(self) -> Peer:
        """Return a new device with a remote of its own."""
        return Peer(self.remote(), self.object)

    # -- batches -------------------------------------------------------------------------------------

    def test_a_batch_gets_a_verdict_for_each_change_in_its_order(self) -> None:
        """Versions rise within a batch."""
        peer = self.peer()
        versions = [_version(verdict) for verdict in peer.push(*(peer.upsert(key, {}) for key in "cab"))]
        assert versions == sorted(set(versions))
        reader = self.peer()
        assert [entry.key for entry in reader.pull().changes] == ["c", "a", "b"]

    def test_a_repeated_batch_is_answered_and_not_applied_again(self) -> None:
        """The receipt answers a repeat with the same verdicts; nobody sees a second write."""
        peer, reader = self.peer(), self.peer()
        batch = peer.batch(peer.upsert("a", {"n": 1}))
        first = peer.send(batch)
        reader.pull_all()
        assert peer.send(batch).results == first.results
        assert reader.pull().changes == []

    def test_a_repeat_is_answered_as_then_though_others_have_written_since(self) -> None:
        """An answer that was lost is still the answer."""
        peer, other = self.peer(), self.peer()
        batch = peer.batch(peer.upsert("a", {"n": 1}))
        first = peer.send(batch)
        other.pull_all()
        other.push(other.upsert("a", {"n": 2}))
        assert peer.send(batch).results == first.results
        peer.pull_all()
        assert peer.held == {"a": {"n": 2}}

    def test_a_number_that_was_used_for_another_batch_shows_a_copied_device(self) -> None:
        """A client behind its receipt is refused, and nothing of its batch is applied."""
        peer = self.peer()
        peer.push(peer.upsert("a", {}))
        stale = peer.batch(peer.upsert("b", {}), number=1)
        assert refusal_of(peer.remote.push, stale) == CLIENT_FORKED
        reader = self.peer()
        reader.pull_all()
        assert reader.held == {"a": {}}

    def test_a_pull_of_a_client_behind_its_receipt_shows_a_copied_device(self) -> None:
        """The number of a pull is that of the last acknowledged batch."""
        peer = self.peer()
        peer.push(peer.upsert("a", {}))
        assert refusal_of(peer.remote.pull, peer.request(number=0)) == CLIENT_FORKED

    def test_a_client_ahead_of_its_receipt_shows_a_restored_hub(self) -> None:
        """The hub begins a new epoch."""
        peer = self.peer()
        peer.push(peer.upsert("a", {}))
        before = peer.epoch
        assert refusal_of(peer.remote.push, peer.batch(number=5)) == EPOCH_CHANGED
        fresh = self.peer()
        fresh.pull()
        assert fresh.epoch != before

    def test_a_claim_that_no_backup_explains_moves_nothing(self) -> None:
        """Whoever says so reads again; the epoch stays, and so do the versions that are given out."""
        peer, liar = self.peer(), self.peer()
        peer.push(peer.upsert("a", {}))
        peer.pull_all()
        before = peer.epoch
        for far in (1 << 62, MAX_VERSION):
            assert refusal_of(liar.remote.pull, liar.request(head=far)) == EPOCH_CHANGED
            assert refusal_of(liar.remote.push, liar.batch(head=far)) == EPOCH_CHANGED
        assert peer.pull().epoch == before
        assert _version(peer.push(peer.upsert("b", {}))[0]) < 1 << 32
        liar.pull_all()
        assert liar.held == {"a": {}, "b": {}}

    def test_another_hub_than_the_known_one_is_refused(self) -> None:
        """Records of two hubs do not mix."""
        peer = self.peer()
        peer.pull()
        assert refusal_of(peer.remote.pull, peer.request(hub="another")) == WRONG_HUB
        assert refusal_of(peer.remote.push, peer.batch(hub="another")) == WRONG_HUB

    # -- conflicts -----------------------------------------------------------------------------------

    def test_a_write_over_an_unseen_one_is_a_conflict_with_it(self) -> None:
        """The verdict carries the record as the hub has it; nothing is written."""
        peer, other = self.peer(), self.peer()
        peer.push(peer.upsert("a", {"n": 1}))
        (verdict,) = other.push(other.upsert("a", {"n": 2}, base=0))
        assert isinstance(verdict, Conflicted)
        assert read(verdict) == {"n": 1}
        (verdict,) = other.push(other.upsert("a", {"n": 3}, base=verdict.version))
        assert isinstance(verdict, Accepted)

    def test_a_conflict_stays_one_in_a_repeat_and_its_record_comes_with_a_later_batch(self) -> None:
        """A repeat need not carry the record for a device that offers the change again."""
        peer, other = self.peer(), self.peer()
        peer.push(peer.upsert("a", {"n": 1}))
        batch = other.batch(other.upsert("a", {"n": 2}, base=0), offers_again=True)
        (first,), (again,) = other.send(batch).results, other.send(batch).results
        assert isinstance(first, Conflicted)
        assert isinstance(again, Conflicted)
        assert again.version == first.version
        assert again.lacks_record or read(again) == {"n": 1}
        (offered,) = other.send(other.batch(other.upsert("a", {"n": 2}, base=0), offers_again=True)).results
        assert isinstance(offered, Conflicted)
        assert read(offered) == {"n": 1}

    def test_an_edit_during_the_upload_is_no_conflict_with_oneself(self) -> None:
        """A record whose last writer is this client may be written again whatever the base."""
        peer = self.peer()
        peer.push(peer.upsert("a", {"n": 1}))
        (verdict,) = peer.push(peer.upsert("a", {"n": 2}, base=0))
        assert isinstance(verdict, Accepted)

    def test_a_write_over_an_unseen_delete_is_a_conflict(self) -> None:
        """The verdict says that the record is deleted."""
        peer, other = self.peer(), self.peer()
        peer.push(peer.upsert("a", {"n": 1}))
        other.pull_all()
        seen = other.cursor
        peer.push(peer.delete("a"))
        (verdict,) = other.push(other.upsert("a", {"n": 2}, base=seen))
        assert isinstance(verdict, Conflicted)
        assert verdict.deleted

    def test_fields_that_a_change_does_not_mention_are_kept(self) -> None:
        """An older program does not erase a newer one's columns."""
        peer = self.peer()
        peer.push(peer.upsert("a", {"old": 1, "new": 2}))
        peer.push(peer.upsert("a", {"old": 3}))
        reader = self.peer()
        reader.pull_all()
        assert reader.held == {"a": {"old": 3, "new": 2}}

    # -- pages ---------------------------------------------------------------------------------------

    def test_pages_of_any_size_tell_the_same(self) -> None:
        """No record is lost or told twice where a page is cut, within a batch or between two."""
        peer = self.peer()
        for start in range(0, 9, 3):
            peer.push(*(peer.upsert(f"{start + n}", {"n": n}) for n in range(3)))
        for limit in (1, 2, 3, 4, 0):
            reader, keys = self.peer(), list[str]()
            more = True
            while more:
                page = reader.pull(limit)
                assert not limit or len(page.changes) <= limit
                keys += [entry.key for entry in page.changes]
                more = page.more
            assert keys == [f"{n}" for n in range(9)]

    def test_a_commit_between_two_pages_is_not_passed_over(self) -> None:
        """A cursor never passes a write that its page could not see."""
        peer, reader = self.peer(), self.peer()
        peer.push(*(peer.upsert(f"{n}", {"n": n}) for n in range(4)))
        reader.pull(limit=2)
        peer.push(peer.upsert("0", {"n": "late"}), peer.delete("1"), peer.upsert("late", {}))
        reader.pull_all(limit=2)
        assert reader.held == {"0": {"n": "late"}, "2": {"n": 2}, "3": {"n": 3}, "late": {}}

    def test_the_entries_of_a_page_are_in_the_order_of_their_versions(self) -> None:
        """Versions are unique within a space, and no cursor goes back."""
        peer, reader = self.peer(), self.peer()
        for n in (1, 2, 3):
            peer.push(*(peer.upsert(key, {"n": n}) for key in ("a", "b", f"c{n}")))
        page = reader.pull()
        versions = [entry.version for entry in page.changes]
        assert versions == sorted(set(versions))
        assert versions[-1] <= page.cursors[self.object] <= page.head

    def test_ones_own_writes_come_back_only_if_they_are_asked_for(self) -> None:
        """A re-read asks for them."""
        peer = self.peer()
        peer.push(peer.upsert("mine", {}))
        assert peer.pull().changes == []
        peer.cursor = 0
        assert [entry.key for entry in peer.pull(own=True).changes] == ["mine"]

    def test_a_delete_comes_to_who_had_the_record(self) -> None:
        """Also to a device that had uploaded it, and never read."""
        maker, reader = self.peer(), self.peer()
        maker.push(maker.upsert("a", {}))
        reader.pull_all()
        reader.push(reader.delete("a"))
        assert [(entry.key, entry.deleted) for entry in maker.pull().changes] == [("a", True)]

    def test_a_pull_with_nothing_new_is_empty_and_ends(self) -> None:
        """One round trip tells that there is nothing to do."""
        peer = self.peer()
        peer.push(peer.upsert("a", {}))
        peer.pull_all()
        page = peer.pull()
        assert (page.changes, page.more) == ([], False)

    # -- limits --------------------------------------------------------------------------------------

    def test_a_record_that_cannot_be_taken_is_rejected_and_the_others_are_accepted(self) -> None:
        """A rejected record does not stop its batch."""
        peer = self.peer()
        long = "k" * (MAX_KEY_LENGTH + 1)
        verdicts = peer.push(peer.upsert("a", {}), peer.upsert(long, {}), peer.upsert("b", {}))
        assert [type(verdict) for verdict in verdicts] == [Accepted, Rejected, Accepted]

    def test_a_key_and_a_text_of_every_script_come_back_as_they_were(self) -> None:
        """Nothing is trimmed, folded or normalized."""
        data = {
            "text": ' e\u0301 \u00e9 \u65e5\u672c \U0001f600 \u2028 "\\ ',
            "n": 2**53,
            "x": 0.1,
            "no": None,
            "yes": True,
        }
        key = "\u00e9 \u65e5/%2F?#"
        peer, reader = self.peer(), self.peer()
        peer.push(peer.upsert(key, data))
        reader.pull_all()
        assert reader.held == {key: data}


class HubConformance(RemoteConformance):
    """Holds a server of one's own to more than any remote shows: give it ``purge()`` besides ``remote()``."""

    def purge(self, through: int) -> None:
        """Make the hub forget the deletes up to a version."""
        raise NotImplementedError("give the conformance test a purge()")

    def test_a_cursor_before_a_purged_delete_has_to_read_again(self) -> None:
        """What it missed cannot be told any more."""
        peer, reader = self.peer(), self.peer()
        peer.push(peer.upsert("a", {}), peer.upsert("b", {}))
        reader.pull_all()
        self.purge(_version(peer.push(peer.delete("a"))[0]))
        assert refusal_of(reader.remote.pull, reader.request()) == HORIZON_PASSED
        reader.cursor, reader.held = 0, {}
        reader.pull(own=True)
        assert reader.held == {"b": {}}

    def test_a_scan_that_began_before_a_purged_delete_has_to_begin_anew(self) -> None:
        """The feed that follows it could not tell the delete. One that begins is never refused for that."""
        peer, reader = self.peer(), self.peer()
        peer.push(*(peer.upsert(key, {}) for key in "abcd"))
        if not reader.scan(limit=1).scans:
            return
        self.purge(_version(peer.push(peer.delete("a"))[0]))
        assert refusal_of(reader.remote.pull, reader.scan_request(1)) == HORIZON_PASSED
        anew = self.peer()
        while anew.is_scanning:
            anew.scan(limit=1)
        anew.pull_all()
        assert anew.held.keys() == {"b", "c", "d"}

    def test_a_read_from_the_start_comes_to_its_end_past_purged_deletes(self) -> None:
        """Whoever reads in pages says where the head was when the read began: it has missed none of them."""
        peer, reader = self.peer(), self.peer()
        peer.push(*(peer.upsert(f"{n}", {}) for n in range(5)))
        self.purge(_version(peer.push(peer.delete("0"))[0]))
        reader.pull_all(limit=1)
        assert reader.held.keys() == {"1", "2", "3", "4"}

    def test_a_delete_that_is_purged_amid_a_read_from_the_start_begins_it_anew(self) -> None:
        """The record was there when the read began, and nobody tells that it is gone."""
        peer, reader = self.peer(), self.peer()
        peer.push(*(peer.upsert(f"{n}", {}) for n in range(5)))
        reader.pull(limit=2)
        self.purge(_version(peer.push(peer.delete("0"))[0]))
        assert refusal_of(reader.remote.pull, reader.request()) == HORIZON_PASSED

    def test_who_reads_from_the_start_excuses_no_older_cursor(self) -> None:
        """A device that is put back from a backup has missed what it had missed, whatever was read since."""
        peer, reader = self.peer(), self.peer()
        peer.push(*(peer.upsert(f"{n}", {}) for n in range(5)))
        reader.pull_all()
        seen = reader.cursor
        self.purge(_version(peer.push(peer.delete("0"))[0]))
        reader.cursor, reader.held = 0, {}
        reader.pull_all(limit=1)
        reader.cursor = seen
        assert refusal_of(reader.remote.pull, reader.request()) == HORIZON_PASSED

    def test_a_known_record_whose_delete_was_purged_is_not_made_again(self) -> None:
        """A change of it is a conflict with the delete; a new record under its key is none."""
        peer, other = self.peer(), self.peer()
        peer.push(peer.upsert("a", {}))
        other.pull_all()
        seen = other.cursor
        self.purge(_version(peer.push(peer.delete("a"))[0]))
        (verdict,) = other.push(other.upsert("a", {"n": 1}, base=seen))
        assert isinstance(verdict, Conflicted)
        assert verdict.deleted
        (verdict,) = other.push(other.upsert("a", {"n": 2}, base=0))
        assert isinstance(verdict, Accepted)

    def test_a_batch_that_is_refused_leaves_nothing(self) -> None:
        """Two changes of one record are no batch; nothing of it is applied."""
        peer, reader = self.peer(), self.peer()
        twice = peer.batch(peer.upsert("a", {"n": 1}), peer.upsert("b", {}), peer.upsert("a", {"n": 2}))
        refusal_of(peer.remote.push, twice)
        reader.pull_all()
        assert reader.held == {}
        assert isinstance(peer.push(peer.upsert("b", {}))[0], Accepted)


def _version(verdict: Accepted | Conflicted | Rejected) -> int:
    assert isinstance(verdict, Accepted), f"the hub answered {verdict} to a change that nobody else has made"
    return verdict.version
