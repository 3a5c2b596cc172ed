"""What clients, mistaken clients and attackers send: streams of requests, right and wrong ones."""

import json
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Final

from hypothesis import strategies as st

from router_http_echo import EARLY
from router_http_fronts import LIMITS, MODEL, Ending
from router_wire import CHAT

_SMUGGLED: Final = b"POST /smuggled HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
_SMUGGLED_CHAT: Final = f"GET {CHAT} HTTP/1.1\r\nX: ".encode()
_SOUND_METHODS: Final = (
    *(b"POST",) * 4,
    *(b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PROPFIND", b"M-SEARCH", b"TRACE"),
)
_METHODS: Final = (
    *_SOUND_METHODS,
    *(b"CONNECT", b"PRI", b"QUERY", b"SOURCE", b"post", b"POSTS", b"PO ST", b"", b"P\0ST"),
)
_SOUND_TARGETS: Final = (
    *(CHAT.encode(),) * 24,
    *(b"/echo",) * 7,
    *(EARLY,) * 4,
    f"{CHAT}?x=/echo".encode(),
    f"http://router{CHAT}".encode(),
    f"HTTPS://u:p@router:1{CHAT}?x".encode(),
)
_TARGETS: Final = (
    *_SOUND_TARGETS,
    f"{CHAT}/".encode(),
    f"/{CHAT}".encode(),
    f"/.{CHAT}".encode(),
    CHAT.upper().encode(),
    b"/v1/chat%2Fcompletions",
    *(b"/", b"*", b"router:443", b"http://router", b"//", b"", b"x", b"?", b"/?"),
    *(b"/\xff", b"/\xc3\xa9", b"/a b", b"/%", b"/%ff", b"/\x7f", b"/\t", b"http://[::1", b"/\\"),
    b"/" + b"x" * 300,
)
_SOUND_VERSIONS: Final = (*(b"HTTP/1.1",) * 4, *(b"HTTP/1.0",) * 4, b"HTTP/2.0", b"HTTP/0.9")
_VERSIONS: Final = (
    *_SOUND_VERSIONS,
    *(b"HTTP/1.2", b"HTTP/11", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1", b"HTTP/1.01"),
    *(b"", b"HTTP/3.0", b"RTSP/1.0", b"ICE/1.0"),
)
_LINE_ENDS: Final = (*(b"\r\n",) * 10, b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\0\r\n")
_SOUND_FIELDS: Final = (
    *(b"Host: router", b"host:router", b"X: \t b \t", b"X-Empty:", b"X: \xff", b"Accept: */*"),
    *(b"Content-Type: application/json", b"Content-Encoding: identity"),
    *(b"Expect: 100-continue", b"Expect: 100-Continue", b"Expect: 200-ok"),
    *(b"Connection: close", b"Connection: keep-alive", b"Connection: Close, TE", b"Connection: TE"),
    *(b"Connection: keep-alive, close", b"Connection: ,", b"Proxy-Connection: close"),
    *(b"Upgrade: h2c", b"Trailer: X", b"Keep-Alive: timeout=1"),
)
"""Some of them tell what the router does not do, none makes a request invalid."""
_LARGE_FIELDS: Final = (
    *(b"X: " + b"x" * 800, b"X: " + b"x" * 2_000, b"X" * 800 + b": y", b"X: y\r\n" * 299 + b"X: y"),
)
_ODD_FIELDS: Final = (
    *(b"X : b", b" X: b", b"X: a\r\n b", b"X: a\r\n\tb", b"X", b": x", b"X\0: y", b"X: a\0b"),
    *(b"X: a\rb", b"X: a\nb", b"X\xff: y", b"X: \x7f", b"Host: a\r\nHost: b", b"\x0bX: y"),
    b"Content-Encoding: gzip",
    *_LARGE_FIELDS,
)
_LENGTHS: Final = (
    *(b"+%d", b"-%d", b"0x%x", b"%d,", b"0%d", b"%d\0", b"%d.0", b"%de0", b"%d %d", b"%d, %d"),
    *(b"\t%d\t", b"%d\x0b", b"%d;x", b"99999999999999999999%d", b"18446744073709551616", b""),
    *(b"500", b"%d\r\nContent-Length: %d", b"%d\r\nContent-Length: 1"),
    *(b"%d\r\nContent-Length : 1", b"%d\r\n Content-Length: 1", b"%d\r\nContent_Length: 1"),
)
_CODINGS: Final = (
    *(b"Transfer-Encoding: xchunked", b"Transfer-Encoding:\tchunked", b"Transfer-Encoding:chunked"),
    *(b"transfer-encoding: CHUNKED", b"Transfer-Encoding: chunked ", b"Transfer-Encoding: "),
    *(b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, gzip"),
    *(b"Transfer-Encoding: identity", b"Transfer-Encoding: identity, chunked", b"TE: chunked"),
    *(b"Transfer-Encoding : chunked", b"Transfer-Encoding: chunked, chunked"),
    *(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b" Transfer-Encoding: chunked"),
    *(b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked;q=1"),
    *(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"Transfer_Encoding: chunked"),
    *(b"Transfer-Encoding: \x0bchunked", b'Transfer-Encoding: "chunked"', b"X: y\nTransfer-Encod"),
    *(b"Transfer-Encoding: ,chunked", b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding: chu"),
)
_EXTENSIONS: Final = (b"", b"", b"", b";x", b";x=1", b';x="a;b"', b"; x = 1", b";" + b"x" * 200)
_TRAILERS: Final = (
    *(b"", b"", b"X: y\r\n", b"X: y\r\nX: z\r\n", b"Content-Length: 5\r\n", b"X:\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n"),
)
_ODD_TRAILERS: Final = (b"X\r\n", b" X: y\r\n", b"X : y\r\n", b"X: y\n", b"\0", b"X: a\r\n b\r\n")
_ODD_SIZES: Final = (
    *(b"0x%x", b"-%x", b"+%x", b" %x", b"%x ", b"%xg", b"", b"%x\0", b"%x\t", b"%x,", b"_%x"),
    *(b"ffffffffffffffff%x", b"10000000000000000", b"%x\r", b"%x\n", b"%x;\n", b'%x;"', b"%x;\0"),
)
_UPGRADES: Final = (
    (b"Connection: Upgrade", b""),
    (b"Upgrade: h2c", b""),
    (b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA", b""),
    (b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AA==", b""),
    (b"Upgrade: TLS/1.0\r\nConnection: keep-alive, Upgrade", b"Connection: keep-alive"),
    (b"Upgrade: h2c\r\nConnection: close, Upgrade", b"Connection: close"),
    (b"Upgrade: h2c\r\nConnection: Upgrade\r\nConnection: close", b"Connection: close"),
)
"""Fields that ask for an upgrade, and what is left of them for a server that heeds none."""
_GARBAGE: Final = (
    *(b"\x00", b"\r\n", b"\n", b" ", b"\x16\x03\x01\x02\x00\x01\x00", b"garbage\r\n\r\n"),
    *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    *(b"0\r\n\r\n", b"\xef\xbb\xbf", _SMUGGLED, _SMUGGLED_CHAT, b"\r\n\r\n\r\n", b"G", b"\r"),
)
_KINDS: Final = (
    *("sound",) * 8,
    *("odd", "odd", "mutated", "mutated", "head", "garbage"),
)
_NOISE: Final = b'\0\t\n\r \x0b":,;/0159=AaXx\x7f\x80\xff'


@dataclass(frozen=True)
class Piece:
    """A request, or what was made of one."""

    raw: bytes
    plain: bytes
    """As it would be if it did not ask for an upgrade."""
    is_sound: bool = False
    """It ends where it says, and the next one can be read."""


@dataclass(frozen=True)
class Stream:
    """All that a client sends on one connection, and how."""

    raw: bytes
    plain: bytes
    """The same without upgrades."""
    reads: tuple[bytes, ...]
    """`raw`, as it comes."""
    is_patient: bool
    """Between two reads is some time."""
    ending: Ending
    is_large: bool
    """There may be a head in it that is above the limit."""
    delay_s: float
    """What the engine takes for each answer."""


def streams() -> st.SearchStrategy[Stream]:
    """Anything that can come on a connection. Each request is made from a number: to draw all that
    is in it would take longer than to send it."""
    numbers = st.integers(0, 2**32)
    return st.builds(
        _make_stream,
        st.lists(st.tuples(st.sampled_from(_KINDS), numbers), min_size=2, max_size=6),
        st.tuples(st.sampled_from(("whole", "anywhere", "anywhere", "every byte")), numbers),
        st.booleans(),
        st.sampled_from((*("stays",) * 6, "half_closes", "resets")),
        st.sampled_from((0.0, 0.01)),
    )


def _make_stream(
    kinds: list[tuple[str, int]],
    cut: tuple[str, int],
    is_patient: bool,
    ending: Ending,
    delay_s: float,
) -> Stream:
    pieces: list[Piece] = []
    for kind, number in kinds:
        can_upgrade = all(piece.is_sound for piece in pieces)
        pieces.append(_make_piece(Random(number), kind, f"request-{len(pieces)}", can_upgrade))
    raw = b"".join(piece.raw for piece in pieces)
    return Stream(
        raw,
        b"".join(piece.plain for piece in pieces),
        _split(Random(cut[1]), cut[0], raw),
        is_patient,
        ending,
        any(field in raw for field in _LARGE_FIELDS),
        delay_s,
    )


def _split(random: Random, kind: str, raw: bytes) -> tuple[bytes, ...]:
    if kind == "every byte":
        return tuple(raw[n : n + 1] for n in range(len(raw)))
    cuts = [random.randint(0, len(raw)) for _ in range(random.randint(1, 8))]
    edges = sorted({0, len(raw), *(cuts if kind == "anywhere" else ())})
    return tuple(raw[a:b] for a, b in pairwise(edges))


def _make_piece(random: Random, kind: str, name: str, can_upgrade: bool) -> Piece:
    if kind == "garbage":
        raw = random.choice(_GARBAGE)
    elif kind == "odd":
        raw = _make_odd(random, name)
    elif kind == "head":
        head = _make_sound(random, name, can_upgrade=False).raw.partition(b"\r\n\r\n")[0]
        raw = head + random.choice((b"", b"\r\nExpect: 100-continue")) + b"\r\n\r\n"
    elif kind == "mutated":
        raw = _mutate(random, _make_sound(random, name, can_upgrade=False).raw)
    else:
        return _make_sound(random, name, can_upgrade)
    return Piece(raw, raw)


def _make_sound(random: Random, name: str, can_upgrade: bool) -> Piece:
    """A request that can be read, if not always answered as its client hopes."""
    method, target, version = b"POST", random.choice(_SOUND_TARGETS), b"HTTP/1.1"
    if random.random() < 0.2:
        method, version = random.choice(_SOUND_METHODS), random.choice(_SOUND_VERSIONS)
    fields = random.choices(_SOUND_FIELDS, k=random.choice((0, 0, 0, 1, 2)))
    framing, body = _frame(random, _make_body(random, name))
    upgrade, rest = b"", b""
    if can_upgrade and random.random() < 0.2:
        # one connection field is enough to tell what is left of it
        fields = [f for f in fields if not f.lower().startswith((b"connection", b"upgrade"))]
        upgrade, rest = random.choice(_UPGRADES)

    def write(more: bytes) -> bytes:
        line = b" ".join((method, target, version))
        return b"\r\n".join((line, *filter(None, (*fields, more, framing)), b"", b"")) + body

    return Piece(write(upgrade), write(rest), is_sound=True)


def _make_body(random: Random, name: str) -> bytes:
    kind = random.choice((*("valid",) * 12, "text", "empty", "large"))
    if kind == "empty":
        return b""
    if kind == "text":
        return random.choice((b"x", b"[]", b"{}", _SMUGGLED, b"0\r\n\r\n" + _SMUGGLED))
    content = name + "x" * (LIMITS.max_body_bytes if kind == "large" else 0)
    messages = [{"role": "user", "content": content}]
    return json.dumps({"model": MODEL, "messages": messages}).encode()


def _frame(random: Random, body: bytes) -> tuple[bytes, bytes]:
    """The field that says how long the body is, and the body as it is sent."""
    kind = random.choice(("sized", "sized", "sized", "chunked", "chunked", "none"))
    if kind == "none":
        return b"", b""
    if kind == "sized":
        return b"Content-Length: %d" % len(body), body
    return b"Transfer-Encoding: chunked", _chunk(random, body)


def _chunk(
    random: Random, body: bytes, sizes: tuple[bytes, ...] = (b"%x", b"%X", b"00%x")
) -> bytes:
    cuts = [random.randint(0, len(body)) for _ in range(random.choice((0, 0, 1, 3)))]
    edges = sorted({0, len(body), *cuts})
    chunks = [
        b"%b%b\r\n%b\r\n"
        % (
            _fill(random.choice(sizes), b - a),
            random.choice(_EXTENSIONS),
            body[a:b],
        )
        for a, b in pairwise(edges)
    ]
    return b"".join((*chunks, b"0\r\n", random.choice(_TRAILERS), b"\r\n"))


def _fill(form: bytes, size: int) -> bytes:
    return form % ((size,) * form.count(b"%"))


def _make_odd(random: Random, name: str) -> bytes:
    """A request with a few things wrong in it."""
    end, line = b"\r\n", b"POST %b HTTP/1.1" % CHAT.encode()
    if random.random() < 0.3:
        end = random.choice(_LINE_ENDS)
        line = b" ".join(random.choice(part) for part in (_METHODS, _TARGETS, _VERSIONS))
    fields = random.choices(_SOUND_FIELDS + _ODD_FIELDS, k=random.choice((0, 0, 1, 2)))
    body = _make_body(random, name)
    sent = random.choice((body, body, body[:-3], body + _SMUGGLED, body + _SMUGGLED_CHAT))
    sized = b"Content-Length: %d" % len(body)
    coded = b"Transfer-Encoding: chunked"
    kind = random.choice(("sized", "length", "coding", "both", "chunks", "trailers"))
    if kind == "sized":
        fields.append(sized)
    elif kind == "length":
        form = random.choice(_LENGTHS)
        fields.append(b"Content-Length: " + _fill(form, len(body)))
    elif kind == "coding":
        fields.append(random.choice(_CODINGS))
        sent = random.choice((sent, _chunk(random, body)))
    elif kind == "both":
        other = random.choice((coded, *_CODINGS))
        fields += random.sample((sized, other), 2)
        sent = random.choice((sent, _chunk(random, body)))
    elif kind == "chunks":
        fields.append(coded)
        sent = _chunk(random, body, (b"%x", *_ODD_SIZES))
    else:
        fields.append(coded)
        sent = _chunk(random, body)[:-2] + random.choice(_ODD_TRAILERS) + b"\r\n"
    return end.join((line, *fields, b"", b"")) + sent


def _mutate(random: Random, raw: bytes) -> bytes:
    """Break something somewhere."""
    at = random.randrange(len(raw))
    size = random.randint(1, 20)
    noise = bytes([random.choice(_NOISE)])
    kind = random.choice(("cut", "replace", "insert", "drop", "double"))
    return {
        "cut": raw[:at],
        "replace": raw[:at] + noise + raw[at + 1 :],
        "insert": raw[:at] + noise + raw[at:],
        "drop": raw[:at] + raw[at + size :],
        "double": raw[: at + size] + raw[at:],
    }[kind]
