"""What travels together in one call."""

import random

from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.scheduling.embedding_work import EmbeddingWork, Slice, gather
from scheduling_world import Engine

Request = EmbeddingWork[Engine]


def request(*tokens: int, taken: int = 0, parameters: bytes | None = b"{}") -> Request:
    work: Request = EmbeddingWork("embedding", "m", 0.0, texts=len(tokens))
    work.cut(parameters, tokens)
    work.taken = taken
    return work


def shape(works: list[Request], max_texts: int = 4, max_tokens: int = 100) -> list[tuple[int, ...]]:
    slices: list[Slice[Engine]] = gather(
        works[0], works, max_texts=max_texts, max_tokens=max_tokens
    )
    return [(works.index(piece.work), piece.begin, piece.end) for piece in slices]


def test_small_requests_fill_a_batch_in_their_order() -> None:
    assert shape([request(1), request(1, 1), request(1), request(1)]) == [
        (0, 0, 1),
        (1, 0, 2),
        (2, 0, 1),
    ]


def test_a_request_that_does_not_fit_is_not_torn_and_lets_later_ones_fill_the_batch() -> None:
    assert shape([request(1, 1), request(1, 1, 1), request(1), request(1)]) == [
        (0, 0, 2),
        (2, 0, 1),
        (3, 0, 1),
    ]


def test_a_large_request_is_cut_where_the_batch_is_full() -> None:
    large = request(*[1] * 10)
    assert shape([large, request(1)]) == [(0, 0, 4)]
    assert shape([large, request(1)]) == [(0, 4, 8)]
    assert shape([large, request(1), request(1, 1)]) == [(0, 8, 10), (1, 0, 1)]


def test_a_large_request_behind_others_takes_what_they_leave() -> None:
    works = [request(1), request(*[1] * 10), request(1)]
    assert shape(works) == [(0, 0, 1), (1, 0, 3)]
    assert works[1].taken == 3


def test_a_batch_has_a_limit_of_tokens() -> None:
    assert shape([request(60), request(60), request(40)]) == [(0, 0, 1), (2, 0, 1)]


def test_a_request_that_has_too_many_tokens_is_cut_by_them() -> None:
    work = request(60, 30, 60)
    assert shape([work]) == [(0, 0, 2)]
    assert shape([work]) == [(0, 2, 3)]


def test_a_single_text_above_the_limit_travels_alone() -> None:
    works = [request(500), request(1)]
    assert shape(works) == [(0, 0, 1)]
    assert shape([request(1), request(500), request(2)]) == [(0, 0, 1), (2, 0, 1)]


def test_what_cannot_be_cut_travels_whole_and_alone() -> None:
    assert shape([request(*[1] * 10, parameters=None), request(1)]) == [(0, 0, 10)]


def test_a_request_with_nothing_to_cut_is_whole() -> None:
    work: Request = EmbeddingWork("embedding", "m", 0.0, texts=3)
    work.cut(b"{}", ())
    slices = gather(work, [], max_texts=4, max_tokens=100)
    assert [(piece.work, piece.begin, piece.end) for piece in slices] == [(work, 0, 3)]


def test_texts_that_came_back_leave_first_and_one_piece_at_a_time() -> None:
    large = request(*[1] * 12)
    assert [shape([large]) for _ in range(3)] == [[(0, 0, 4)], [(0, 4, 8)], [(0, 8, 12)]]
    large.give_back(4, 8)
    large.give_back(0, 2)
    assert (large.untaken, large.untaken_tokens) == (6, 6)
    assert shape([large], max_texts=3) == [(0, 0, 2)]
    assert shape([large], max_texts=3) == [(0, 4, 7)]
    large.give_back(8, 12)
    assert shape([large]) == [(0, 7, 11)], "what touches is one piece"
    assert shape([large]) == [(0, 11, 12)]
    assert not large.untaken


@given(st.lists(st.integers(1, 5), min_size=1, max_size=15), st.integers(0, 2**32))
def test_every_text_is_out_or_left_whatever_comes_back(tokens: list[int], seed: int) -> None:
    chance = random.Random(seed)
    work = request(*tokens)
    out: list[Slice[Engine]] = []
    for _ in range(30):
        if work.untaken and chance.random() < 0.5:
            out += gather(work, [], max_texts=chance.randint(1, 4), max_tokens=6)
        elif work.untaken and chance.random() < 0.2:
            out += work.take_all()
        elif out:
            piece = out.pop(chance.randrange(len(out)))
            work.give_back(piece.begin, piece.end)
        away = [number for piece in out for number in range(piece.begin, piece.end)]
        assert len(set(away)) == len(away)
        assert work.untaken == work.texts - len(away)
        assert work.untaken_tokens == sum(tokens) - sum(tokens[number] for number in away)
    out += work.take_all() if work.untaken else []
    assert sorted(n for p in out for n in range(p.begin, p.end)) == list(range(work.texts))


@given(
    st.lists(st.lists(st.integers(1, 150), min_size=1, max_size=12), min_size=1, max_size=12),
    st.integers(1, 8),
)
def test_every_text_travels_once_in_order_and_within_the_limits(
    sizes: list[list[int]], max_texts: int
) -> None:
    works = [request(*tokens) for tokens in sizes]
    sent: dict[Request, list[int]] = {work: [] for work in works}
    waiting = list(works)
    while waiting:
        head = waiting[0]
        slices = gather(head, waiting, max_texts=max_texts, max_tokens=100)
        texts = [(p.work, n) for p in slices for n in range(p.begin, p.end)]
        assert slices[0].work is head, "what is due is not in its own call"
        assert len(texts) <= max_texts
        assert len(texts) == 1 or sum(w.text_tokens[n] for w, n in texts) <= 100
        for work, number in texts:
            sent[work].append(number)
        waiting = [work for work in waiting if work.taken < work.texts]
    assert all(sent[work] == list(range(work.texts)) for work in works)
