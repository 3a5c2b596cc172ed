"""All API keys by the digest of their secrets: who sends a request. Pure.

Secrets are not kept. A header is looked up as it came, by its BLAKE2b digest under a key that every
process draws anew, so how long a look-up takes tells nothing about the secrets that are known.
"""

import hashlib
from collections.abc import Iterable
from hmac import compare_digest
from typing import Final

from sagepool_router.auth.entries import MAX_SECRET, KeyEntry
from sagepool_router.auth.errors import invalid_key, missing_key
from sagepool_router.auth.keys import ApiKey

_SCHEME: Final = b"Bearer "
_MAX_HEADER: Final = len(_SCHEME) + MAX_SECRET


class Keyring:
    """Who is known. Immutable but for the keys' own state; a reload makes another.

    Args:
        entries: the keys; no secret comes twice.
        salt: the process' own random bytes, at most 64.
        now: seconds, monotonic.
        share: the part of every limit that is this router's: one over their number.
        previous: the keyring before; keys that have the same name go on with their state.
    """

    __slots__ = ("_begin_hash", "_by_digest", "keys")

    def __init__(
        self,
        entries: Iterable[KeyEntry],
        salt: bytes,
        *,
        now: float,
        share: float = 1.0,
        previous: "Keyring | None" = None,
    ) -> None:
        # A copy of a hash that has the salt already costs two thirds of a new one.
        self._begin_hash = hashlib.blake2b(key=salt, digest_size=32).copy
        known = {} if previous is None else {key.name: key for key in previous.keys}
        self._by_digest: dict[bytes, tuple[bytes, ApiKey]] = {}
        keys: list[ApiKey] = []
        for entry in entries:
            key = known.get(entry.name)
            if key is None:
                key = ApiKey(entry, share, now)
            else:
                key.configure(entry, share, now)
            keys.append(key)
            for secret in entry.secrets:
                digest = self._digest(_SCHEME + secret.encode())
                self._by_digest[digest] = (digest, key)
        self.keys: tuple[ApiKey, ...] = tuple(keys)
        """In the order of their names."""

    def find(self, authorization: bytes | None) -> ApiKey:
        """Whose request it is.

        Args:
            authorization: the header's value; None: the request has no such header.

        Raises:
            Unauthorized: there is no key in it, or an unknown one.
        """
        if authorization is None:
            raise missing_key()
        if len(authorization) <= _MAX_HEADER:
            digest = self._digest(authorization)
            found = self._by_digest.get(digest)
            if found is not None and compare_digest(found[0], digest):
                return found[1]
        # Few write it in another way than we do, so only who is not found pays for them.
        usual = _write_usually(authorization)
        if usual is None:
            raise missing_key()
        if usual == authorization or len(usual) > _MAX_HEADER:
            raise invalid_key()
        return self.find(usual)

    def keep_to(self, share: float, now: float) -> None:
        """The number of routers has changed: keep to another share of all limits."""
        for key in self.keys:
            key.keep_to(share, now)

    def _digest(self, authorization: bytes) -> bytes:
        hash_ = self._begin_hash()
        hash_.update(authorization)
        return hash_.digest()


def _write_usually(authorization: bytes) -> bytes | None:
    """The same header with `Bearer`, one space and the token; None if there is no token in it."""
    scheme, _, token = authorization.strip().partition(b" ")
    token = token.strip()
    return _SCHEME + token if token and scheme.lower() == b"bearer" else None
