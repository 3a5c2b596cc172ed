"""What is read of JSON: of requests by kind of route, and of what engines say.

Texts stay the bytes that the client wrote. The types that msgspec decodes are all here: it reads
their annotations, so they have to stay interpreted where what uses them is compiled.
"""

from typing import Final

import msgspec

ABSENT: Final = msgspec.Raw(b"")
"""Stands for a field that the body does not have; falsy."""


class Body(msgspec.Struct, gc=False):
    """Of every body. A value that a later rule judges is read as whatever it is."""

    model: str = ""
    stream: object = None
    user: msgspec.Raw = ABSENT


class SamplingBody(Body, gc=False):
    """Of every body that asks an llm to write."""

    max_tokens: object = None
    temperature: object = None
    top_p: object = None


class ChatBody(SamplingBody, gc=False):
    """Of /v1/chat/completions."""

    messages: list[msgspec.Raw] | None = None
    tools: msgspec.Raw = ABSENT
    max_completion_tokens: object = None


class CompletionBody(SamplingBody, gc=False):
    """Of /v1/completions."""

    prompt: msgspec.Raw = ABSENT
    prompt_embeds: msgspec.Raw = ABSENT


class ResponseBody(SamplingBody, gc=False):
    """Of /v1/responses."""

    input: msgspec.Raw = ABSENT
    instructions: msgspec.Raw = ABSENT
    tools: msgspec.Raw = ABSENT
    max_output_tokens: object = None


class MessageBody(SamplingBody, gc=False):
    """Of /v1/messages."""

    messages: list[msgspec.Raw] | None = None
    system: msgspec.Raw = ABSENT
    tools: msgspec.Raw = ABSENT


class EmbeddingBody(Body, gc=False):
    """Of /v1/embeddings."""

    input: msgspec.Raw = ABSENT
    messages: list[msgspec.Raw] | None = None


class Message(msgspec.Struct, gc=False):
    """Of a message in a conversation."""

    role: object = None


class Part(msgspec.Struct, gc=False):
    """Of a part of a message."""

    text: msgspec.Raw = ABSENT


class MessageOfParts(msgspec.Struct, gc=False):
    """Of a message whose content is a list."""

    content: list[Part]


class Wanted(msgspec.Struct, gc=False):
    """Of /v1/embeddings, where vectors have to be told from others."""

    dimensions: int | None = None
    """How long the caller wants them: a model may be able to cut them."""


class SaidUsage(msgspec.Struct, gc=False):
    """Of the usage in an answer."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    """The same by the name that responses and messages have for it."""
    output_tokens: int | None = None


UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the functions below raise."""
read_chat: Final = msgspec.json.Decoder(ChatBody).decode
read_completion: Final = msgspec.json.Decoder(CompletionBody).decode
read_response: Final = msgspec.json.Decoder(ResponseBody).decode
read_message: Final = msgspec.json.Decoder(MessageBody).decode
read_embedding: Final = msgspec.json.Decoder(EmbeddingBody).decode
read_other: Final = msgspec.json.Decoder(Body).decode

read_items: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
"""The items of a list, uncopied."""
read_text: Final = msgspec.json.Decoder(str).decode
read_role: Final = msgspec.json.Decoder(Message).decode
read_parts: Final = msgspec.json.Decoder(MessageOfParts).decode
read_wanted: Final = msgspec.json.Decoder(Wanted).decode
read_usage: Final = msgspec.json.Decoder(SaidUsage).decode
