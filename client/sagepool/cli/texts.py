"""Texts that come from files and pipes."""

from sagepool.laptop.errors import WrongUse


def decode(raw: bytes, place: str) -> str:
    """The text that bytes are.

    Raises:
        WrongUse: they are not UTF-8; `place` says where they stand.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise WrongUse(f"{place} is not UTF-8: convert it first, for example with iconv") from None
