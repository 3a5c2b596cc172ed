"""The key-value cache reuses prefixes, evicts what was used longest ago, and leaks no block."""

from hypothesis import given
from hypothesis import strategies as st

from sagepool_simulator.kvcache import BLOCK_TOKENS, Allocation, BlockCache

PROMPT = list(range(4 * BLOCK_TOKENS))


def _take(cache: BlockCache, prompt: list[int], max_tokens: int = 0) -> Allocation:
    allocation = cache.allocate(prompt, max_tokens)
    assert allocation is not None
    return allocation


def test_the_same_prefix_is_computed_once() -> None:
    cache = BlockCache(64)
    cache.release(_take(cache, PROMPT))
    again = _take(cache, [*PROMPT[: 2 * BLOCK_TOKENS], *[9999] * BLOCK_TOKENS])
    assert again.cached_tokens == 2 * BLOCK_TOKENS
    assert cache.hit_tokens == 2 * BLOCK_TOKENS


def test_a_block_counts_only_behind_the_same_tokens() -> None:
    cache = BlockCache(64)
    cache.release(_take(cache, PROMPT))
    moved = PROMPT[BLOCK_TOKENS:]
    assert _take(cache, moved).cached_tokens == 0


def test_the_last_token_of_a_cached_prompt_is_still_computed() -> None:
    cache = BlockCache(64)
    cache.release(_take(cache, PROMPT))
    assert _take(cache, PROMPT).cached_tokens == len(PROMPT) - 1


def test_a_full_cache_makes_the_next_wait() -> None:
    cache = BlockCache(4)
    first = _take(cache, PROMPT)
    assert cache.usage == 1.0
    assert cache.allocate([1] * BLOCK_TOKENS, 0) is None
    cache.release(first)
    assert cache.usage == 0.0
    assert cache.allocate([1] * BLOCK_TOKENS, 0) is not None


def test_what_was_used_longest_ago_is_evicted_first() -> None:
    cache = BlockCache(4)
    old, new = [1] * (2 * BLOCK_TOKENS), [2] * (2 * BLOCK_TOKENS)
    cache.release(_take(cache, old))
    cache.release(_take(cache, new))
    cache.release(_take(cache, [3] * (2 * BLOCK_TOKENS)))
    assert _take(cache, new).cached_tokens > 0
    assert _take(cache, old).cached_tokens == 0


def test_what_can_never_fit_is_known() -> None:
    cache = BlockCache(4)
    assert cache.fits(4 * BLOCK_TOKENS)
    assert not cache.fits(4 * BLOCK_TOKENS + 1)


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 3), max_size=80), st.integers(0, 40), st.booleans()),
        max_size=60,
    )
)
def test_usage_is_what_is_held_and_never_over_one(
    steps: list[tuple[list[int], int, bool]],
) -> None:
    cache = BlockCache(12)
    held: list[Allocation] = []
    for prompt, max_tokens, releases in steps:
        allocation = cache.allocate(prompt, max_tokens)
        if allocation is not None:
            held.append(allocation)
        if releases and held:
            cache.release(held.pop(0))
        assert 0.0 <= cache.usage <= 1.0
    for allocation in held:
        cache.release(allocation)
    assert cache.usage == 0.0
