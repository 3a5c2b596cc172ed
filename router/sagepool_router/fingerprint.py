"""Numbers for the beginnings of a prompt, by which requests find the instance that knows them.

Pure, and equal in every process: routers of a pool agree without talking to each other.
"""

from typing import Final
from zlib import crc32

import msgspec

from sagepool_router.bodies import (
    UNREADABLE,
    Body,
    ChatBody,
    CompletionBody,
    MessageBody,
    ResponseBody,
    read_items,
    read_role,
)

MAX_PREFIX_BYTES: Final = 4096
"""So much of a prompt counts: tools, then system texts, then the first user's text."""
_BLOCKS: Final = (256, 512, 1024, 2048)
"""Where beginnings end: prompts that share a beginning share those up to there."""
_SEPARATOR: Final = b"\0"  # is in no JSON


def fingerprints(body: Body) -> list[int]:
    """A number for each beginning of a prompt, as the client wrote it; the longest comes last.

    Tools, system texts and the first user text count, up to `MAX_PREFIX_BYTES`. The numbers are of
    the first 256 bytes of it, of the first 512, and so on by doubling, and of all. Two bodies of
    one route and model share one if, and but for one in four billion only if, they share that
    beginning. An adapter is a model of its own here. Empty: there is no prompt.
    """
    pieces: list[bytes | memoryview]
    if isinstance(body, ChatBody):
        tools = body.tools
        pieces = [tools]
        room = MAX_PREFIX_BYTES - len(tools)
        messages = body.messages
    elif isinstance(body, CompletionBody):
        pieces = []
        room = MAX_PREFIX_BYTES
        messages = [body.prompt] if body.prompt else None
    elif isinstance(body, MessageBody):
        pieces = [body.tools, body.system]
        room = MAX_PREFIX_BYTES - len(body.tools) - len(body.system)
        messages = body.messages
    elif isinstance(body, ResponseBody):
        pieces = [body.tools, body.instructions]
        room = MAX_PREFIX_BYTES - len(body.tools) - len(body.instructions)
        messages = _read_input(body.input)
    else:
        return []
    if not messages:
        return []
    last = messages[-1]
    try:
        for message in messages:
            pieces.append(message)
            room -= len(message)
            if room <= 0 or message is last or read_role(message).role == "user":
                break
    except UNREADABLE:
        pass  # no message ends it too: what that is to mean is the engine's business
    if room < 0:
        _cut(pieces)
    return _number(memoryview(_SEPARATOR.join(pieces)), crc32(body.model.encode()))


def _number(prefix: memoryview, number: int) -> list[int]:
    # A fraction of what BLAKE2b costs. Who forges an equal one gets to the same instance, no more.
    found = []
    begin = 0
    for end in _BLOCKS:
        if end >= len(prefix):
            break
        number = crc32(prefix[begin:end], number)
        found.append(number)
        begin = end
    found.append(crc32(prefix[begin:], number))
    return found


def _read_input(given: msgspec.Raw) -> list[msgspec.Raw]:
    """What /v1/responses is asked: a list of messages, or one text in the place of it."""
    return read_items(given) if bytes(memoryview(given)[:1]) == b"[" else [given]


def _cut(pieces: list[bytes | memoryview]) -> None:
    """Leave `MAX_PREFIX_BYTES` of the pieces together."""
    room = MAX_PREFIX_BYTES
    for index, piece in enumerate(pieces):
        pieces[index] = memoryview(piece)[:room]
        room -= len(pieces[index])
