"""Logs: a constant message with key-values, as JSON in clusters and as text for people."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

from sagepool_router.config import LogFormat, LogLevel

_OWN_FIELDS: Final = frozenset(
    (*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message")
)


def _extras(record: logging.LogRecord) -> dict[str, object]:
    """What the caller gave as `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _OWN_FIELDS}


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record; what JSON does not know is written as text."""
        line: dict[str, object] = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """One line for people; an exception follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record."""
        pairs = "".join(f" {key}={value!r}" for key, value in _extras(record).items())
        line = f"{_moment(record)} {record.levelname:<7} {record.getMessage()}{pairs}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure_logging(log_format: LogFormat, log_level: LogLevel) -> None:
    """Send all logs of the process to stderr, libraries' logs included."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log_level.upper())
    if log_level != "debug":
        # they log every request or start-up step at info: ours say what matters
        for name in ("httpx", "httpcore", "uvicorn.error"):
            logging.getLogger(name).setLevel(logging.WARNING)
