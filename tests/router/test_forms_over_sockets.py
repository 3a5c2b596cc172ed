"""Multipart forms on their way to an engine."""

from router_engines import ANSWER, serve_engine
from router_server import backend, serve_router, table_of
from router_wire import ask, raw

PATH = "/v1/audio/transcriptions"
SOUND = bytes(range(256)) * 40


def form(model: str | None, boundary: str = "b0unDary") -> bytes:
    parts = [] if model is None else [f'name="model"\r\n\r\n{model}'.encode()]
    parts.append(b'name="file"; filename="a.wav"\r\ncontent-type: audio/wav\r\n\r\n' + SOUND)
    lines = [
        b"--%b\r\ncontent-disposition: form-data; %b\r\n" % (boundary.encode(), part)
        for part in parts
    ]
    return b"".join(lines) + b"--%b--\r\n" % boundary.encode()


def post_form(body: bytes, kind: str = "multipart/form-data; boundary=b0unDary") -> bytes:
    return raw(PATH, body, f"content-type: {kind}", f"content-length: {len(body)}")


def test_a_form_arrives_as_it_was_sent_with_its_boundary() -> None:
    with serve_engine("ok") as engine, serve_router(table_of(backend(engine.port))) as router:
        response = ask(router.port, post_form(form("ok")))
        assert (response.status, response.body) == (200, ANSWER)
        (got,) = engine.requests
        assert (got.path, got.body) == (PATH, form("ok"))
        assert got.headers["content-type"] == "multipart/form-data; boundary=b0unDary"


def test_an_alias_in_a_form_becomes_the_models_name_and_nothing_else_changes() -> None:
    with serve_engine("ok") as engine:
        table = table_of(backend(engine.port), aliases={"whisper-1": "ok"})
        with serve_router(table) as router:
            assert ask(router.port, post_form(form("whisper-1"))).status == 200
            assert engine.requests[0].body == form("ok")


def test_a_form_without_a_model_or_a_boundary_is_refused() -> None:
    with serve_engine("ok") as engine, serve_router(table_of(backend(engine.port))) as router:
        assert ask(router.port, post_form(form(None))).code == "missing_model"
        plain = ask(router.port, post_form(form("ok"), kind="multipart/form-data"))
        assert (plain.status, plain.code) == (400, "invalid_content_type")
        assert engine.requests == []
