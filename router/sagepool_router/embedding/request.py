"""An embedding request cut into its texts and what has to be alike for two to share a call. Pure.

Nothing is decoded below the top level: texts stay the bytes that the client wrote, so that an
engine reads from a merged call exactly what it would have read from each request alone.
"""

import re
from types import MappingProxyType
from typing import Final

import msgspec


class EmbeddingRequest(msgspec.Struct, frozen=True, gc=False):
    """An embedding request as merging sees it."""

    parameters: bytes
    """Members of the body beside model and input in an order of ours, each followed by a comma.

    Requests may share a call if, and only if, they are mergeable and these are equal.
    """
    texts: tuple[bytes, ...]
    """Items of the input as the client wrote them: all JSON strings or all lists of token ids."""
    tokens: tuple[int, ...]
    """Estimated tokens of each text."""
    is_mergeable: bool
    """Whether its answer can be cut; if not, the request has to travel alone and as it is."""


_BYTES_PER_TOKEN: Final = 4
_FORMATS: Final = MappingProxyType(
    {
        b"null": b"",
        b'"float"': b'"encoding_format":"float",',
        b'"base64"': b'"encoding_format":"base64",',
    }
)
"""Encoding formats that are answered in OpenAI's JSON, as parameters; engines know others."""
_IDS_MARK: Final = b" "
"""Ends the parameters of token ids: they may not share a call with strings, because vLLM refuses
a list of both. To JSON it is nothing."""
_LIST: Final = re.compile(rb"\[\s*(.)", re.DOTALL)
_INSIDE_IDS: Final = b"0123456789, \t\r\n"
_QUOTE: Final = ord('"')
_NULL: Final = msgspec.Raw(b"null")
_OPAQUE: Final = EmbeddingRequest(b"", (), (), False)

_decode_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read_request(body: bytes) -> EmbeddingRequest:
    """Cut the body of an embedding request that has been classified before.

    Of duplicate keys the last one counts, as it does at the engine. What only the engine
    understands (a conversation, items that are neither strings nor token ids) has no texts here.
    """
    try:
        fields = _decode_fields(body)
        given = bytes(fields.pop("input", _NULL))
        texts = (given,) if given[0] == _QUOTE else _cut_list(given)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _OPAQUE
    if not texts:
        return _OPAQUE
    are_ids = texts[0][0] != _QUOTE
    tokens = _estimate_tokens(texts, are_ids)
    # The model is written anew, the priority is the router's to send, no engine reads the user.
    fields.pop("model", None)
    fields.pop("user", None)
    fields.pop("priority", None)
    encoding = fields.pop("encoding_format", None)
    parameters = b"" if encoding is None else _FORMATS.get(bytes(encoding))
    if parameters is None:
        return EmbeddingRequest(b"", texts, tokens, False)
    if fields:
        if bytes(fields.pop("messages", _NULL)) != b"null":
            return EmbeddingRequest(b"", texts, tokens, False)
        parameters += _write_members(fields)
    if are_ids:
        parameters += _IDS_MARK
    return EmbeddingRequest(parameters, texts, tokens, True)


def _cut_list(given: bytes) -> tuple[bytes, ...]:
    """The items of an input; none if they are neither all strings nor all token ids."""
    first = _LIST.match(given)
    if first is None:
        return ()
    if first[1] == b'"':
        items = tuple(map(bytes, _decode_items(given)))
        return items if {item[0] for item in items} == {_QUOTE} else ()
    shape = given.translate(None, _INSIDE_IDS)
    if first[1].isdigit():
        return (given,) if shape == b"[]" else ()
    items = tuple(map(bytes, _decode_items(given)))
    return items if shape == b"[%b]" % (b"[]" * len(items)) else ()


def _estimate_tokens(texts: tuple[bytes, ...], are_ids: bool) -> tuple[int, ...]:
    if are_ids:
        return tuple([ids.count(b",") + 1 for ids in texts])
    if len(texts) == 1:
        return ((len(texts[0]) - 2) // _BYTES_PER_TOKEN or 1,)
    return tuple([(len(text) - 2) // _BYTES_PER_TOKEN or 1 for text in texts])


def _write_members(fields: dict[str, msgspec.Raw]) -> bytes:
    """Members sorted by name; values keep their bytes, for what we do not know is not ours."""
    members = b""
    for name in sorted(fields):
        value = bytes(fields[name])
        if value != b"null" or name != "dimensions":
            members += b"%b:%b," % (msgspec.json.encode(name), value)
    return members
