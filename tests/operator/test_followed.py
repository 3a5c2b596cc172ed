"""What has been found, by pool."""

from sagepool_crds.meta import PoolKey
from sagepool_operator.followed import Filed

RAG, OTHER = PoolKey("default", "rag"), PoolKey("default", "other")


def test_what_is_filed_for_a_pool_is_seen_by_that_pool_alone() -> None:
    filed: Filed[str, int] = Filed()
    filed.put(RAG, "a", 1)
    filed.put(RAG, "b", 2)
    filed.put(OTHER, "a", 3)
    assert (dict(filed.of(RAG)), dict(filed.of(OTHER))) == ({"a": 1, "b": 2}, {"a": 3})
    filed.drop(RAG, "a")
    assert (dict(filed.of(RAG)), dict(filed.of(OTHER))) == ({"b": 2}, {"a": 3})


def test_what_a_reader_holds_stays_as_it_was() -> None:
    """A reconcile waits for the API server between its look at the reports and its plan."""
    filed: Filed[str, int] = Filed()
    filed.put(RAG, "a", 1)
    held = filed.of(RAG)
    filed.put(RAG, "a", 2)
    filed.drop(RAG, "a")
    assert (dict(held), dict(filed.of(RAG))) == ({"a": 1}, {})


def test_what_was_never_filed_is_dropped_without_a_word() -> None:
    filed: Filed[str, int] = Filed()
    filed.drop(RAG, "a")
    assert not filed.of(RAG)
