"""Fields of a form are found and replaced in a body that is not copied or decoded."""

from contextlib import suppress
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_requests import FORM_TYPE, TRANSCRIPTION, form, read, refusal
from sagepool_router.errors import InvalidRequest
from sagepool_router.multipart import (
    MAX_PART_HEAD_BYTES,
    MAX_PARTS,
    find_fields,
    read_boundary,
    replace_model_field,
)

SOUND = ('"file"; filename="a.wav"\r\nContent-Type: audio/wav', b"\x00--B\r\n--BB\r\n--B-x\r\n\xff")
"""Sound with what looks like delimiters."""


def values(body: bytes, boundary: bytes = b"B") -> dict[bytes, bytes]:
    return {name: body[i:j] for name, (i, j) in find_fields(body, boundary).items()}


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"multipart/form-data; boundary=B", b"B"),
        (b'multipart/form-data; charset=x; boundary="a b"', b"a b"),
        (b"Multipart/Form-Data;BOUNDARY=----x'()+_,-./:=?", b"----x'()+_,-./:=?"),
        (b'multipart/form-data; x="; boundary=no"; boundary=yes', b"yes"),
        (b"multipart/form-data", b""),
        (b"multipart/form-data; boundary=", b""),
        (b"multipart/form-data; boundary=" + b"x" * 257, b""),
    ],
)
def test_the_boundary_is_read_from_the_content_type(content_type: bytes, boundary: bytes) -> None:
    assert read_boundary(content_type) == boundary


@pytest.mark.parametrize(
    "body",
    [
        form(('"model"', b"m"), SOUND),
        form(SOUND, ('"model"', b"m")),
        form(("model", b"m")),
        form(('"model"; x=y', b"m")),
        form(('"model"\r\nContent-Type: text/plain', b"m")),
        form(('"model"', b"first"), SOUND, ('"model"', b"m")),
        form(('"x"; filename="; name=model"', b"no"), ('"model"', b"m")),
        b"preamble\r\n" + form(('"model"', b"m")),
        form(('"model"', b"m")) + b"epilogue",
        form(('"model"', b"m")).replace(b"--B\r\n", b"--B \t\r\n"),
        b'--B\r\ncontent-disposition:form-data;name="model"\r\n\r\nm\r\n--B--',
        b"--B\r\n\r\nno head\r\n" + form(('"model"', b"m")),
    ],
)
def test_the_model_is_found_wherever_it_stands(body: bytes) -> None:
    assert read(TRANSCRIPTION, body, content_type=FORM_TYPE).model == "m"
    replaced = replace_model_field(body, b"B", "longer/name")
    assert values(replaced) == {**values(body), b"model": b"longer/name"}
    assert len(replaced) == len(body) + len("longer/name") - len("m")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (form(SOUND), "missing_model"),
        (form(('"model"', b"")), "missing_model"),
        (form(('"model"', b"\xff")), "missing_model"),
        (form(('"model"; filename="m"', b"m")), "missing_model"),
        (form(('"models"', b"m")), "missing_model"),
        (b"--B--", "missing_model"),
        (b"", "invalid_form"),
        (b'{"model":"m"}', "invalid_form"),
        (form(('"model"', b"m"))[:-6], "invalid_form"),
        (form(('"model"', b"m"), boundary=b"C"), "invalid_form"),
        (form(('"x"; y="%s"' % ("z" * MAX_PART_HEAD_BYTES), b"m")), "invalid_form"),
        (form(*[('"x"', b"")] * (MAX_PARTS + 1)), "invalid_form"),
    ],
)
def test_a_form_without_a_model_or_an_end_is_refused(body: bytes, code: str) -> None:
    assert refusal(TRANSCRIPTION, body, content_type=FORM_TYPE).code == code


@pytest.mark.parametrize(
    "content_type", [b"application/json", b"multipart/form-data", b"x; boundary=B"]
)
def test_a_form_needs_a_boundary(content_type: bytes) -> None:
    error = refusal(TRANSCRIPTION, form(('"model"', b"m")), content_type=content_type)
    assert (error.code, error.param) == ("invalid_content_type", "content-type")


def test_a_body_without_the_field_stays_as_it_is() -> None:
    body = form(SOUND)
    assert replace_model_field(body, b"B", "m") == body


names = st.sampled_from(["model", "stream", "x"])
contents = st.binary(max_size=20).filter(lambda value: b"\r\n--B" not in value)


@given(st.lists(st.tuples(names, contents), max_size=6), st.text(min_size=1, max_size=9))
def test_fields_are_found_and_all_else_keeps_its_bytes(
    fields: list[tuple[str, bytes]], name: str
) -> None:
    name = name.encode("utf-8", "replace").decode()
    body = form(*((f'"{field}"', value) for field, value in fields))
    assert values(body) == {field.encode(): value for field, value in fields}
    last = max((i for i, (field, _) in enumerate(fields) if field == "model"), default=None)
    if last is not None:
        fields[last] = ("model", name.encode())
    expected = form(*((f'"{field}"', value) for field, value in fields))
    assert replace_model_field(body, b"B", name) == expected


@given(
    st.lists(
        st.sampled_from(
            [b"--B", b"\r\n", b"--", b'name="model"', b"x", b"content-disposition: form-data;"]
        ),
        max_size=14,
    )
)
def test_every_sequence_of_bytes_is_a_form_or_refused(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    with suppress(InvalidRequest):
        found = find_fields(body, b"B")
        assert all(0 <= begin <= end <= len(body) for begin, end in found.values())


def test_a_form_reads_as_another_parser_reads_it() -> None:
    body = form(('"model"', b"m"), SOUND, ('"language"', b"de"))
    message = BytesParser(EmailMessage, policy=HTTP).parsebytes(
        b"Content-Type: " + FORM_TYPE + b"\r\n\r\n" + body
    )
    others = {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in message.iter_parts()
        if part.get_filename() is None
    }
    assert {name.decode(): value for name, value in values(body).items()} == others
