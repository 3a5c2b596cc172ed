"""The text format: what prometheus_client reads back is what was meant."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from sagepool_router.exposition import Page

# The format is made of lines of UTF-8: surrogates and other line ends cannot be label values.
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"))) | st.sampled_from(
    ['"', "\\", "\n", '\\n"', "{}", 'a="b",c', "# HELP x"]
)


@given(value=TEXTS, help_=TEXTS)
def test_any_label_value_and_help_survive(value: str, help_: str):
    page = Page()
    page.family("things", "gauge", help_).add(1.5, {"name": value, "kind": "x"})
    (family,) = text_string_to_metric_families(page.text())
    (sample,) = family.samples
    assert (sample.labels, sample.value) == ({"name": value, "kind": "x"}, 1.5)


def test_a_histogram_is_cumulative_and_ends_with_infinity():
    page = Page()
    page.family("wait_seconds", "histogram", "Waits.").add_histogram(
        (0.1, 1), (2, 3, 4), 12.5, {"model": "m"}
    )
    (family,) = text_string_to_metric_families(page.text())
    found = {(s.name, s.labels.get("le")): s.value for s in family.samples}
    assert found == {
        ("wait_seconds_bucket", "0.1"): 2,
        ("wait_seconds_bucket", "1"): 5,
        ("wait_seconds_bucket", "+Inf"): 9,
        ("wait_seconds_sum", None): 12.5,
        ("wait_seconds_count", None): 9,
    }


def test_a_metric_without_samples_is_still_described():
    page = Page()
    page.family("retries_total", "counter", "Retries.")
    assert page.text() == "# HELP retries_total Retries.\n# TYPE retries_total counter\n"
