"""Log lines: a constant message and key-values, for machines or for people."""

import json
import logging
import sys

from sagepool_router.logging import JsonFormatter, TextFormatter


def record(**extra: object) -> logging.LogRecord:
    logger = logging.Logger("sagepool_router.test")
    return logger.makeRecord(
        logger.name, logging.WARNING, "f.py", 1, "table %s", ("changed",), None, extra=extra
    )


def test_json_lines_hold_message_level_and_key_values():
    line = json.loads(JsonFormatter().format(record(pool="rag", version=3)))
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "sagepool_router.test",
        "message": "table changed",
        "pool": "rag",
        "version": 3,
    }


def test_what_json_does_not_know_is_written_as_text():
    assert json.loads(JsonFormatter().format(record(where=ValueError("x"))))["where"] == "x"


def test_a_json_line_stays_one_line_whatever_it_says():
    assert "\n" not in JsonFormatter().format(record(text="a\nb"))


def test_text_lines_quote_values_so_that_they_stay_one_line():
    line = TextFormatter().format(record(error="a\nb"))
    assert line.endswith("WARNING table changed error='a\\nb'")


def test_exceptions_are_told_in_both_forms():
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError:
        found = record()
        found.exc_info = sys.exc_info()
    assert "by zero" in json.loads(JsonFormatter().format(found))["exception"]
    assert "by zero" in TextFormatter().format(found)
