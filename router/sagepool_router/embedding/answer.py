"""An engine's answer cut into embeddings, and a caller's answer written of them. Pure.

Numbers are never decoded: an embedding is the bytes that the engine wrote for it. Half a megabyte
of them takes msgspec a millisecond only to step over, so lists of numbers are first cut out by
searching for brackets, and what remains, the outline, is decoded.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Final, TypeAlias

import msgspec

from sagepool_router.errors import EngineFailed


class MalformedAnswer(EngineFailed):
    """An engine answered a call with something else than one embedding for each text."""

    def __init__(self, message: str) -> None:
        super().__init__(f"the engine's answer cannot be used: {message}", "malformed_answer")


class EmbeddingAnswer(msgspec.Struct, frozen=True, gc=False):
    """What an engine answered to one call."""

    embeddings: list[bytes]
    """JSON of each embedding, a list of numbers or base64, in the order of the texts."""
    prompt_tokens: int
    total_tokens: int
    model: str
    """The model as the engine names it."""
    has_id: bool = False
    """Whether this engine gives its answers an id."""
    created: bytes = b"null"
    """JSON of the time at which the engine says to have begun; null if it does not say."""

    def extras(self, answer_id: str) -> bytes:
        """Members of a caller's answer that this engine writes beside OpenAI's own.

        Args:
            answer_id: the caller's; unused if this engine has no ids.
        """
        members = b""
        if self.has_id:
            members = b'"id":%b,' % msgspec.json.encode(answer_id)
        if self.created != b"null":
            members += b'"created":%b,' % self.created
        return members


_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
_NULL: Final = msgspec.Raw(b"null")


class _Item(msgspec.Struct, gc=False):
    index: int
    embedding: msgspec.Raw


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: _Count
    total_tokens: _Count


class _Body(msgspec.Struct, gc=False):
    data: list[_Item]
    model: str
    usage: _Usage
    id: msgspec.Raw = _NULL
    created: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


_LIST: Final = re.compile(rb'"embedding"\s*:\s*(?=\[)')
_SEARCHED_BYTES: Final = 4096
"""How far the next list is looked for: base64 is not worth a search, msgspec steps over it."""
_STAND_IN: Final = b'"#'
"""How the strings begin that stand in an outline for the lists cut out of it."""
_EMBEDDING_STARTS: Final = b'["'
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_decode: Final = msgspec.json.Decoder(_Body).decode


def read_answer(body: bytes, texts: int) -> EmbeddingAnswer:
    """Cut the answer to a call of `texts` texts.

    The inside of a list of numbers is not judged: who asked for it gets it as the engine wrote
    it, as if there were no router.

    Raises:
        MalformedAnswer: it is not JSON, holds an error, or has not exactly one embedding for
            each text.
    """
    try:
        answer = _decode_outline(body) or _decode(body)
    except _UNREADABLE as error:
        raise MalformedAnswer(str(error)) from None
    if bytes(answer.error) != b"null":
        raise MalformedAnswer("it holds an error")
    return EmbeddingAnswer(
        _in_order(answer.data, texts),
        answer.usage.prompt_tokens,
        answer.usage.total_tokens,
        answer.model,
        bytes(answer.id) != b"null",
        bytes(answer.created),
    )


def write_answer(
    model: str,
    embeddings: Sequence[bytes],
    prompt_tokens: int,
    total_tokens: int,
    extras: bytes = b"",
) -> bytes:
    """A caller's answer: OpenAI's list, indices from 0.

    Args:
        model: as the engine named it.
        embeddings: the caller's, in the order of its texts; they may come of several calls.
        prompt_tokens: the caller's share.
        total_tokens: the caller's share.
        extras: of `EmbeddingAnswer.extras`.
    """
    pieces = [b'{%b"object":"list","model":%b,"data":[' % (extras, msgspec.json.encode(model))]
    separator = b""
    for index, embedding in enumerate(embeddings):
        pieces.append(b'%b{"index":%d,"object":"embedding","embedding":' % (separator, index))
        pieces.append(embedding)
        separator = b"},"
    usage = b'"usage":{"prompt_tokens":%d,"total_tokens":%d}' % (prompt_tokens, total_tokens)
    pieces.append(b"%b],%b}" % (separator[:1], usage))
    return b"".join(pieces)


def dimension(embedding: bytes) -> int:
    """The length of a flat list of numbers, or of the float32 numbers in base64."""
    if embedding.startswith(b"["):
        return embedding.count(b",") + 1 if embedding[1:-1].strip() else 0
    digits = embedding.strip(b'="')
    if b"\\" in digits:  # some writers escape the slashes of base64
        digits = msgspec.json.decode(embedding, type=str).rstrip("=").encode()
    return len(digits) * 3 // 4 // 4


def _in_order(items: Sequence[_Item], texts: int) -> list[bytes]:
    """The embeddings by index."""
    if len(items) != texts:
        raise MalformedAnswer(f"{len(items)} embeddings for {texts} texts")
    embeddings = [b""] * texts
    for item in items:
        index = item.index
        if not 0 <= index < texts or embeddings[index]:
            raise MalformedAnswer(f"index {index} among {texts} texts is not expected")
        embedding = bytes(item.embedding)
        if embedding[0] not in _EMBEDDING_STARTS:
            raise MalformedAnswer(f"embedding {index} is neither a list nor base64")
        embeddings[index] = embedding
    return embeddings


def _decode_outline(body: bytes) -> _Body | None:
    """The same as decoding the body if that is valid JSON, but without reading the numbers.

    None if nothing is gained or the outcome would not be certain.
    """
    outline, lists = _cut_lists(body)
    if not lists:
        return None
    with suppress(*_UNREADABLE):
        answer = _decode(outline)
        for item in answer.data:
            cut = lists.pop(bytes(item.embedding), None)
            if cut is not None:
                item.embedding = msgspec.Raw(cut)
        if not lists:
            return answer
    return None


def _cut_lists(body: bytes) -> tuple[bytes, dict[bytes, memoryview]]:
    """The body with a stand-in for every "embedding" that is a list, and the lists by those.

    In valid JSON the quote before a colon ends a key, so the bracket behind it is no part of a
    string; and where neither a string nor another list begins before the next bracket that
    closes, the two belong together.
    """
    view = memoryview(body)
    pieces: list[bytes | memoryview] = []
    lists: dict[bytes, memoryview] = {}
    end = 0
    while (key := _LIST.search(body, end, end + _SEARCHED_BYTES)) is not None:
        begin = key.end()
        close = body.find(b"]", begin) + 1
        if not close:
            break
        if body.find(b'"', begin, close) >= 0 or body.find(b"[", begin + 1, close) >= 0:
            break  # no list of numbers: for msgspec to step over
        stand_in = b'%b%d"' % (_STAND_IN, len(lists))
        pieces += (view[end:begin], stand_in)
        lists[stand_in] = view[begin:close]
        end = close
    if not lists:
        return body, lists
    pieces.append(view[end:])
    outline = b"".join(pieces)
    if outline.count(_STAND_IN) != len(lists):  # the engine writes such strings itself
        return body, {}
    return outline, lists
