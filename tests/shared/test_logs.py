"""Log lines: text and JSON, levels by logger, secrets masked."""

from __future__ import annotations

import io
import json
import logging

import pytest

from fluxforge import logs

SECRET = 'pa"ss\\word'


pytestmark = pytest.mark.usefixtures("root_logger")


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_console_line_carries_level_logger_message_and_fields() -> None:
    out = io.StringIO()
    logs.setup(stream=out)
    logging.getLogger("collector").info("connected to %s", "x", extra={"symbols": 2})
    (line,) = lines(out)
    assert line[12:] == " INFO    collector  connected to x symbols=2"


def test_json_line_is_one_object() -> None:
    out = io.StringIO()
    logs.setup(fmt="json", stream=out)
    logging.getLogger("collector").warning("two\nlines", extra={"symbols": 2, "odd": object})
    entry = json.loads(out.getvalue())
    assert len(lines(out)) == 1
    assert (entry["level"], entry["logger"], entry["message"], entry["symbols"]) == (
        "WARNING",
        "collector",
        "two\nlines",
        2,
    )
    assert entry["ts"].endswith("+00:00")


def test_levels_are_set_by_logger() -> None:
    out = io.StringIO()
    logs.setup("WARNING", levels={"test_logs.loud": "DEBUG"}, stream=out)
    logging.getLogger("test_logs.quiet").info("no")
    logging.getLogger("test_logs.loud").debug("yes")
    assert [line.split()[-1] for line in lines(out)] == ["yes"]


@pytest.mark.parametrize("fmt", ["console", "json"])
def test_secrets_are_masked_in_messages_fields_and_tracebacks(fmt: str) -> None:
    out = io.StringIO()
    logs.setup(fmt=fmt, secrets=[SECRET, "abc"], stream=out)  # type: ignore[arg-type]
    log = logging.getLogger("x")
    try:
        raise ValueError(f"login with {SECRET}")
    except ValueError:
        log.exception("url?key=%s", SECRET, extra={"key": SECRET})
    text = out.getvalue()
    assert SECRET not in text
    assert json.dumps(SECRET)[1:-1] not in text
    assert text.count(logs.MASK) >= 3
