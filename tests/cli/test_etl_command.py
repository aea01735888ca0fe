"""`fluxforge etl`: the days it takes, and how it refuses what is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fluxforge.errors import ConfigError
from fluxforge_cli.main import app

MIDNIGHT = 1_700_006_400
"""2023-11-15."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Three days of Bronze, ten books around each midnight."""
    monkeypatch.chdir(tmp_path)
    books = []
    for second in (day * 86_400 + at for day in range(3) for at in range(-5, 5)):
        at = MIDNIGHT + second
        book = {"timestamp": at * 1000, "bids": [[99.0, 1.0]], "asks": [[99.5, 1.0]]}
        message = {"exchange": "x", "symbol": "A/B", "channel": "orderbook", "capture_ts": at * 10**9, "data": book}
        books.append(json.dumps(message))
    (tmp_path / "books.ndjson").write_text("\n".join(books) + "\n")
    run("import", "--format", "ccxt-ndjson", "--data-dir", "d", "books.ndjson")
    return "d"


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def etl(data: str, *arguments: str) -> int:
    """Feature rows that were made."""
    found: int = json.loads(run("etl", "--data-dir", data, "--json", *arguments))["rows"].get("hf", 0)
    return found


def test_channels_are_passed_through_where_the_configuration_says_so(data: str) -> None:
    Path("config.yaml").write_text("etl: {channels: {orderbook: {enabled: false, pass_through: true}}}\n")
    assert json.loads(run("etl", "--data-dir", data, "--json"))["rows"]["events_orderbook"] == 30
    counted = run("query", "--data-dir", data, "--json", "SELECT count(*) AS books FROM events_orderbook")
    assert json.loads(counted) == [{"books": 30}]


def test_rows_across_markets_come_with_them_unless_they_are_switched_off(data: str) -> None:
    Path("config.yaml").write_text("cross: {enabled: false}\n")
    assert "cross" not in json.loads(run("etl", "--data-dir", data, "--json"))["rows"]
    Path("config.yaml").unlink()
    made = json.loads(run("etl", "--data-dir", data, "--json"))
    assert (made["rows"], made["behind"]) == ({"cross": 29}, 0), "the last step is open"
    assert json.loads(run("etl", "--data-dir", data, "--json"))["rows"] == {}
    counted = run("query", "--data-dir", data, "--json", 'SELECT symbol, count(*) AS n FROM "cross" GROUP BY symbol')
    assert json.loads(counted) == [{"symbol": "A-B", "n": 29}]


def test_a_day_a_range_and_all(data: str) -> None:
    assert etl(data, "--mode", "date", "--date", "2023-11-14") == 10, "the next day's first minute comes along"
    assert etl(data, "--mode", "range", "--from", "2023-11-14", "--to", "2023-11-15") == 10
    assert etl(data) == 10
    assert etl(data) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--mode", "date"), "--mode date takes --date, not none"),
        (("--mode", "range", "--from", "2023-11-14"), "--mode range takes --from and --to, not --from"),
        (("--date", "2023-11-14"), "--mode all takes no day, not --date"),
        (("--mode", "date", "--date", "14.11.2023"), "'14.11.2023' is no day"),
        (("--mode", "range", "--from", "2023-11-15", "--to", "2023-11-14"), "before it begins"),
    ],
)
def test_days_that_are_none(data: str, arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        CliRunner().invoke(app, ["etl", "--data-dir", data, *arguments], catch_exceptions=False)
