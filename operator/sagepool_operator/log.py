"""Logs: one line a message, as JSON for clusters or as text for people."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

_OF_EVERY_RECORD: Final = frozenset(
    {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"}
)
_NOISY: Final = ("aiohttp.access", "httpx", "httpcore")
_KOPF_REFERENCE: Final = frozenset({"k8s_ref", "k8s_skip", "settings"})
"""What kopf attaches to its records for its own use."""


class JsonFormatter(logging.Formatter):
    """A constant message, and the record's extra fields beside it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line; a traceback follows it."""
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        fields = " ".join(f"{key}={value}" for key, value in _extra(record).items())
        line = f"{time} {record.levelname:7} {record.getMessage()} {fields}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure_logging(log_format: str, level: str, stream: TextIO = sys.stderr) -> None:
    """Send every logger's records to `stream`. A program's first step, done once."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {
        key: value
        for key, value in record.__dict__.items()
        if key not in _OF_EVERY_RECORD and key not in _KOPF_REFERENCE
    }
