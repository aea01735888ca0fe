"""Logging for every process: one line per record, as text or JSON, with secrets masked.

Fields given by `extra={…}` follow the message as `key=value`, or are keys of the JSON object. A secret value named to
`setup` is masked wherever it would appear, tracebacks and third-party records included.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

MASK = "***"
SHORTEST_SECRET = 4
"""A shorter secret would mask ordinary text; it is then kept out of logs only by never being formatted."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def setup(
    level: str = "INFO",
    *,
    levels: Mapping[str, str] | None = None,
    fmt: Literal["console", "json"] = "console",
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Configure the root logger; `levels` sets single loggers, `stream` is standard error where not given."""
    formatter: logging.Formatter = JsonLines(secrets) if fmt == "json" else ConsoleLines(secrets)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name, one in (levels or {}).items():
        logging.getLogger(name).setLevel(one)


class _Masked(logging.Formatter):
    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        self._secrets = sorted((s for s in set(secrets) if len(s) >= SHORTEST_SECRET), key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        line = self.line(record, {k: v for k, v in record.__dict__.items() if k not in _STANDARD})
        for secret in self._secrets:
            line = line.replace(secret, MASK).replace(json.dumps(secret, ensure_ascii=False)[1:-1], MASK)
        return line

    def line(self, record: logging.LogRecord, fields: dict[str, Any]) -> str:
        raise NotImplementedError

    def trace(self, record: logging.LogRecord) -> str:
        parts = [self.formatException(record.exc_info)] if record.exc_info else []
        if record.stack_info:
            parts.append(record.stack_info)
        return "\n".join(parts)


class ConsoleLines(_Masked):
    """`16:03:37.123 INFO    collector  message key=value` (UTC)."""

    def line(self, record: logging.LogRecord, fields: dict[str, Any]) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        tail = "".join(f" {key}={value}" for key, value in fields.items())
        text = f"{at} {record.levelname:<7} {record.name}  {record.getMessage()}{tail}"
        trace = self.trace(record)
        return f"{text}\n{trace}" if trace else text


class JsonLines(_Masked):
    """One object a line: `ts` (ISO 8601, UTC), `level`, `logger`, `message`, the fields, `trace`."""

    def line(self, record: logging.LogRecord, fields: dict[str, Any]) -> str:
        entry = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **fields,
        }
        if trace := self.trace(record):
            entry["trace"] = trace
        return json.dumps(entry, default=str, ensure_ascii=False)
