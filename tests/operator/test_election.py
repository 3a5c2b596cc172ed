"""What one operator may conclude from the Lease, by the table: no calls, no clock."""

from datetime import UTC, datetime, timedelta

import pytest

from sagepool_kube.api import LEASES
from sagepool_operator.election import Claim, Election, Pace, build_lease, read_claim

WALL = datetime(2026, 11, 26, 12, 0, 0, 250_000, tzinfo=UTC)
PACE = Pace(lease_s=10)


def claim(holder: str, *, renewals: int = 0, version: str = "7", lease_s: int = 10) -> Claim:
    return Claim(holder, lease_s, WALL, WALL + timedelta(seconds=2 * renewals), 3, version)


def election() -> Election:
    return Election("me", PACE)


def leader(sent_s: float = 100.0) -> Election:
    """One that has just won."""
    won = election()
    won.observe(None, sent_s)
    won.won(won.claim(WALL), sent_s)
    return won


def test_nobody_leads_by_having_seen_nothing() -> None:
    assert election().sure_for_s(100.0) == 0


@pytest.mark.parametrize("found", [None, claim("")], ids=["no lease", "given back"])
def test_a_lease_without_a_holder_is_free_at_once(found: Claim | None) -> None:
    one = election()
    one.observe(found, 100.0)
    assert one.free_in_s(100.0) == 0


def test_a_lease_with_a_holder_is_free_when_it_has_not_changed_for_its_duration() -> None:
    one = election()
    one.observe(claim("other"), 100.0)
    one.observe(claim("other"), 104.0)
    assert (one.free_in_s(104.0), one.free_in_s(110.0)) == (6.0, 0)
    one.observe(claim("other", renewals=1), 109.0)
    assert one.free_in_s(110.0) == 9.0


def test_the_duration_is_the_one_that_the_holder_has_promised() -> None:
    one = election()
    one.observe(claim("other", lease_s=60), 100.0)
    assert one.free_in_s(110.0) == 50.0


def test_an_edit_that_renews_nothing_is_no_sign_of_life() -> None:
    one = election()
    one.observe(claim("other", version="7"), 100.0)
    one.observe(claim("other", version="8"), 109.0)
    assert one.free_in_s(110.0) == 0
    assert one.claim(WALL).version == "8"


def test_a_lease_that_vanishes_frees_nothing() -> None:
    one = election()
    one.observe(claim("other"), 100.0)
    one.observe(None, 101.0)
    assert one.free_in_s(101.0) == 9.0


def test_a_leader_is_sure_until_the_deadline_counted_from_before_it_sent() -> None:
    one = leader(sent_s=100.0)
    assert one.sure_for_s(103.0) == pytest.approx(4.0)
    assert one.sure_for_s(107.0) == 0


def test_a_renewal_moves_the_deadline_and_a_lost_one_does_not() -> None:
    one = leader(sent_s=100.0)
    renewed = one.claim(WALL + timedelta(seconds=2))
    assert one.sure_for_s(106.9) > 0
    one.won(renewed, 102.0)
    assert one.sure_for_s(108.9) > 0


@pytest.mark.parametrize("found", [None, claim("other")], ids=["no lease", "another one's"])
def test_a_leader_that_finds_itself_out_of_the_lease_is_sure_no_more(found: Claim | None) -> None:
    one = leader(sent_s=100.0)
    one.observe(found, 101.0)
    assert one.sure_for_s(101.0) == 0


def test_a_leader_that_is_late_may_renew_while_the_lease_is_still_its_own() -> None:
    """Nobody can have been in between: a write at that version would have changed it."""
    one = leader(sent_s=100.0)
    one.observe(claim("me"), 130.0)
    assert one.sure_for_s(130.0) == 0
    assert one.free_in_s(130.0) == 0


def test_a_leader_stops_before_any_candidate_may_start() -> None:
    assert PACE.deadline_s < PACE.lease_s
    assert PACE.renew_s + PACE.call_s < PACE.deadline_s, "one renewal may fail"


def test_taking_the_lease_counts_a_transition_and_renewing_it_none() -> None:
    one = election()
    one.observe(claim(""), 100.0)
    taken = one.claim(WALL)
    assert (taken.holder, taken.transitions, taken.acquired_at) == ("me", 4, WALL)
    one.won(taken, 100.0)
    later = WALL + timedelta(seconds=2)
    renewed = one.claim(later)
    assert (renewed.transitions, renewed.acquired_at, renewed.renewed_at) == (4, WALL, later)


def test_who_resigns_is_sure_no_more_and_leaves_the_lease_free() -> None:
    one = leader()
    left = one.resign(WALL)
    assert left is not None
    assert left.holder == ""
    assert one.sure_for_s(100.0) == 0


def test_who_is_not_in_the_lease_cannot_give_it_back() -> None:
    one = election()
    one.observe(claim("other"), 100.0)
    assert one.resign(WALL) is None


def test_a_lease_is_written_in_kubernetes_words_and_read_back() -> None:
    lease = build_lease("sagepool-system", "operator", claim("me"))
    assert lease == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": LEASES.kind,
        "metadata": {
            "name": "operator",
            "namespace": "sagepool-system",
            "resourceVersion": "7",
        },
        "spec": {
            "holderIdentity": "me",
            "leaseDurationSeconds": 10,
            "leaseTransitions": 3,
            "acquireTime": "2026-11-26T12:00:00.250000Z",
            "renewTime": "2026-11-26T12:00:00.250000Z",
        },
    }
    assert read_claim(lease) == claim("me")


def test_a_lease_that_somebody_has_made_by_hand_is_free() -> None:
    one = election()
    one.observe(read_claim({"metadata": {"name": "operator", "resourceVersion": "7"}}), 100.0)
    assert one.free_in_s(100.0) == 0
    assert one.claim(WALL).version == "7"
