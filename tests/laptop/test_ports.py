"""Which port an engine gets."""

import socket
from random import Random

import pytest

from sagepool.laptop.errors import CommandError
from sagepool.laptop.ports import choose_port, is_free

ALL = range(8100, 9000)


def test_what_is_preferred_is_taken_where_it_is_free() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        busy: int = listener.getsockname()[1]
        assert not is_free("127.0.0.1", busy)
        assert choose_port(set(), [busy]) in ALL
    assert choose_port(set(), [busy]) == busy
    assert choose_port({busy}, [busy]) in ALL


def test_who_chooses_at_the_same_time_hardly_chooses_the_same() -> None:
    chosen = [choose_port(set(), rng=Random(seed)) for seed in range(20)]
    assert len(set(chosen)) > 15


def test_the_last_one_that_is_left_is_found() -> None:
    (left,) = {choose_port(set())}
    assert {choose_port(set(ALL) - {left}, rng=Random(seed)) for seed in range(5)} == {left}


def test_no_port_is_a_sentence() -> None:
    with pytest.raises(CommandError, match="no port from 8100 to 8999 is free: stop what listens"):
        choose_port(set(ALL))
