"""Who is let in, who is not, and what survives when the keys are read again."""

import gc
import hashlib
import json
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.auth.entries import KeyEntry
from sagepool_router.auth.errors import RequestsLimited, Unauthorized
from sagepool_router.auth.keyring import Keyring
from sagepool_router.auth.limits import KeyLimits

SALT = b"salt"
ALICE = "sk-0123456789abcdef"
BOB = "sk-fedcba9876543210"
NEW = "sk-aaaaaaaaaaaaaaaa"


def ring(*entries: KeyEntry, previous: Keyring | None = None, share: float = 1.0) -> Keyring:
    return Keyring(entries, SALT, now=0.0, previous=previous, share=share)


@pytest.mark.parametrize(
    "authorization",
    [
        f"Bearer {ALICE}",
        f"bearer {ALICE}",
        f"BEARER  {ALICE}",
        f"Bearer   {ALICE} ",
        f" Bearer {ALICE}",
    ],
)
def test_a_known_secret_is_somebody(authorization: str) -> None:
    keyring = ring(KeyEntry("alice", (ALICE,)), KeyEntry("bob", (BOB,)))
    assert keyring.find(authorization.encode()).name == "alice"


def test_each_secret_of_a_rotation_is_the_same_key() -> None:
    keyring = ring(KeyEntry("alice", (ALICE, NEW)))
    assert keyring.find(f"Bearer {ALICE}".encode()) is keyring.find(f"Bearer {NEW}".encode())


@pytest.mark.parametrize(
    "authorization", [None, b"", b"Bearer", b"Bearer ", b"Bearer   ", b"Basic YWxpY2U6eA==", b"sk"]
)
def test_a_request_without_a_key_is_told_how_to_send_one(authorization: bytes | None) -> None:
    with pytest.raises(Unauthorized) as caught:
        ring(KeyEntry("alice", (ALICE,))).find(authorization)
    assert caught.value.status == 401
    assert caught.value.headers == {"www-authenticate": "Bearer"}
    assert json.loads(caught.value.body())["error"] == {
        "message": "no API key: send it as `authorization: Bearer KEY`",
        "type": "invalid_request_error",
        "param": None,
        "code": "missing_api_key",
    }


@pytest.mark.parametrize(
    "token",
    [
        BOB.encode(),
        ALICE[:-1].encode(),
        ALICE.encode() + b"0",
        ALICE.upper().encode(),
        b"x" * 100_000,
        b"\xff" * 20,
        f"{ALICE} {ALICE}".encode(),
        hashlib.blake2b(ALICE.encode(), key=SALT, digest_size=32).digest(),
    ],
)
def test_another_secret_is_nobodys_and_is_not_repeated(token: bytes) -> None:
    with pytest.raises(Unauthorized) as caught:
        ring(KeyEntry("alice", (ALICE,))).find(b"Bearer " + token)
    error = caught.value
    assert error.status == 401
    assert error.code == "invalid_api_key"
    assert error.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert token[:12] not in error.body()


@given(token=st.binary(max_size=40))
def test_nobody_is_let_in_by_an_empty_keyring(token: bytes) -> None:
    with pytest.raises(Unauthorized):
        ring().find(b"Bearer " + token)


def test_no_secret_is_kept() -> None:
    keyring = ring(KeyEntry("alice", (ALICE,)))
    kept = [*gc.get_referents(keyring), *gc.get_referents(keyring.keys[0])]
    assert keyring.keys in kept
    assert not any(ALICE in str(value) or ALICE.encode() in repr(value).encode() for value in kept)


def test_a_key_goes_on_where_it_was_when_it_is_read_again() -> None:
    before = ring(KeyEntry("alice", (ALICE,), limits=KeyLimits(requests_per_minute=2)))
    alice = before.find(f"Bearer {ALICE}".encode())
    alice.admit("m", 1, 0.0)
    alice.admit("m", 1, 0.0)
    entry = KeyEntry(
        "alice", (NEW,), priority=1, weight=3.0, limits=KeyLimits(requests_per_minute=3)
    )
    after = ring(entry, KeyEntry("bob", (BOB,)), previous=before)
    again = after.find(f"Bearer {NEW}".encode())
    assert (again.priority, again.weight, again.usage.in_flight) == (1, 3.0, 2)
    again.admit("m", 1, 0.0)
    with pytest.raises(RequestsLimited):
        again.admit("m", 1, 0.0)
    alice.settle(1, 5, 6, 0.0)
    assert (again.usage.in_flight, again.usage.prompt_tokens) == (2, 5)
    with pytest.raises(Unauthorized):
        after.find(f"Bearer {ALICE}".encode())


def test_a_key_that_is_gone_is_unknown_and_its_requests_end_in_peace() -> None:
    before = ring(KeyEntry("alice", (ALICE,)))
    alice = before.find(f"Bearer {ALICE}".encode())
    alice.admit("m", 1, 0.0)
    after = ring(previous=before)
    with pytest.raises(Unauthorized):
        after.find(f"Bearer {ALICE}".encode())
    alice.settle(1, 1, 1, 0.0)
    assert after.keys == ()


def test_a_share_is_of_every_key() -> None:
    limits = KeyLimits(requests_per_minute=100)
    keyring = ring(KeyEntry("a", (ALICE,), limits=limits), KeyEntry("b", (BOB,), limits=limits))
    keyring.keep_to(0.25, 0.0)
    told = [key.answer_fields(0.0).splitlines()[0] for key in keyring.keys]
    assert told == [b"x-ratelimit-limit-requests: 25"] * 2


def test_finding_one_of_many_keys_costs_no_more_than_a_few_hashes() -> None:
    keyring = ring(*(KeyEntry(f"k{n}", (f"sk-{n:048}",)) for n in range(5000)))
    authorization = f"Bearer sk-{4999:048}".encode()
    hash_ = hashlib.blake2b(key=SALT, digest_size=32)
    token = authorization[7:]

    def digest() -> bytes:
        copy = hash_.copy()
        copy.update(token)
        return copy.digest()

    unit = min(timeit.repeat(digest, number=2000, repeat=7))
    found = min(timeit.repeat(lambda: keyring.find(authorization), number=2000, repeat=7))
    assert found < 5 * unit
