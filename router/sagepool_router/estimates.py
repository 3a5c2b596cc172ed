"""How many tokens a prompt is, told from the length of what was written.

Pure. No text is decoded: half a megabyte of it is stepped over. Token ids are counted exactly.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from sagepool_router.bodies import read_parts

_BYTES_PER_TOKEN: Final = 4
_TOKENS_PER_MESSAGE: Final = 4
"""What a chat template puts around a text."""
_MESSAGE_BYTES: Final = len('{"role":"user","content":""}')
"""What a message is without its text."""
_OVERHEAD_BYTES: Final = _MESSAGE_BYTES - _TOKENS_PER_MESSAGE * _BYTES_PER_TOKEN
"""How much more than its share of a prompt a message is."""
_ATTACHMENT_TOKENS: Final = 1024
"""An image or a sound, more or less: how many bytes it has says nothing."""
_LARGE_BYTES: Final = 4096
"""In a smaller message an attachment is a link, and too little to matter."""
_BYTES_PER_SOUND_TOKEN: Final = 512
"""A second of speech is 50 positions to Whisper and 16 to 32 KB in the usual encodings."""

_IDS: Final = re.compile(rb"\[\s*(?:\[\s*)?\d")
"""How token ids begin, or a list of lists of them."""
_PARTS: Final = re.compile(rb'"content"\s*:\s*\[')
_SEARCHED_BYTES: Final = 256
"""How far into a large message its list of parts is looked for."""


def count_tokens(given: msgspec.Raw, more_bytes: int = 0) -> int:
    """Tokens of a prompt: a text, token ids, or a list of either.

    Args:
        given: the prompt.
        more_bytes: size of what stands around it: instructions, tools.
    """
    if _IDS.match(given) is not None:
        return count_ids(given)
    return count_text_tokens(len(given) - 2 + more_bytes)


def count_ids(given: msgspec.Raw) -> int:
    """Token ids in a list, or in all of a list of lists, none of them empty."""
    return bytes(given).count(b",") + 1


def count_text_tokens(size: int) -> int:
    """Tokens of so many bytes of text, at least one."""
    return size // _BYTES_PER_TOKEN if size >= _BYTES_PER_TOKEN else 1


def count_chat_tokens(messages: Sequence[msgspec.Raw], more_bytes: int = 0) -> int:
    """Tokens of a conversation.

    Args:
        messages: of it.
        more_bytes: size of what stands around it: tools, system texts.
    """
    size = sum(map(len, messages)) + more_bytes
    if size > _LARGE_BYTES:
        size = _without_attachments(messages, size)
    tokens = (size - _OVERHEAD_BYTES * len(messages)) // _BYTES_PER_TOKEN
    return tokens if tokens > 0 else 1


def count_sound_tokens(size: int) -> int:
    """Tokens of so many bytes of sound: no better without knowing the encoding."""
    return max(1, size // _BYTES_PER_SOUND_TOKEN)


def _without_attachments(messages: Sequence[msgspec.Raw], size: int) -> int:
    """The size with attachments counted as the text that they are as much as."""
    for message in messages:
        written = len(message)
        if written <= _LARGE_BYTES or _PARTS.search(message, 0, _SEARCHED_BYTES) is None:
            continue
        try:
            parts = read_parts(message).content
        except msgspec.DecodeError:
            continue  # what it is to mean is the engine's business
        size += _MESSAGE_BYTES - written
        for part in parts:
            size += len(part.text) or _ATTACHMENT_TOKENS * _BYTES_PER_TOKEN
    return size
