"""Where a collector left off, as the log tells it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector import continuation
from collector.continuation import last_trades
from collector.trade_line import TradeLine
from collector.wire import Void
from fluxforge import codec
from fluxforge.clock import MS, NS
from fluxforge.events import Reset, ResetReason, Trade
from fluxforge.log import Log, Output, open_log
from fluxforge.topics import Topics

NOW = 1_700_000_000 * NS


def trade(number: int, *, symbol: str = "A/B", collector: str = "c1", ago_s: float = 1.0, **more: bool) -> Trade:
    at = NOW - int(ago_s * NS)
    return Trade(
        exchange="x", symbol=symbol, native=symbol, source="x", collector=collector, connection="1",
        ts=at, capture_ts=at, id=str(number), price=1.0, size=1.0, side=1, **more,
    )  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(f"sqlite:///{tmp_path / 'raw.db'}")
    log.create(Topics().specs(2, raw_retention_ms=-1))
    yield log
    log.close()


def write(log: Log, *trades: Trade) -> None:
    appender = log.appender()
    for one in trades:
        value, headers = codec.encode(one), codec.headers(one)
        appender.append(Output("market.raw", one.key.encode(), value, headers, timestamp=one.capture_ts // MS))
    appender.append(Output("market.raw", b"x|A/B", b"not ours", (("kind", b"2"),), timestamp=NOW // MS))
    appender.close()


def found(log: Log, now: int = NOW) -> dict[str, str]:
    return {key: one.id for key, one in last_trades(log, "market.raw", "c1", ["x"], now).items()}


def test_the_newest_trade_of_each_key_that_this_collector_wrote(log: Log):
    write(log, trade(1), trade(2), trade(9, symbol="C/D"), trade(3, collector="c2"))
    assert found(log) == {"x|A/B": "2", "x|C/D": "9"}
    assert last_trades(log, "market.raw", "c1", ["another"], NOW) == {}


def test_after_a_long_absence_nothing_is_made_up_for(log: Log):
    write(log, trade(1, ago_s=700), trade(2, symbol="C/D", ago_s=10))
    assert found(log) == {"x|C/D": "2"}


def test_what_cannot_be_read_in_time_is_left_out(log: Log, monkeypatch: pytest.MonkeyPatch):
    write(log, trade(1))
    monkeypatch.setattr(continuation, "BUDGET_S", -1.0)
    assert found(log) == {}


def line() -> TradeLine:
    def reset(reason: ResetReason, incomplete: bool, detail: str) -> Reset:
        return Reset(
            exchange="x", symbol="A/B", native="A/B", source="x", collector="c1", connection="1",
            ts=None, capture_ts=0, reason=str(reason), incomplete=incomplete, detail=detail,
        )  # fmt: skip

    return TradeLine(reset)


def test_a_resumed_line_waits_for_what_it_missed():
    ours = line()
    ours.resume(trade(5))
    assert ours.reconnect(0, expect_trades=True) == []
    assert ours.missing_from == 6
    out = ours.fill([trade(number, backfilled=True) for number in (5, 6, 7)])
    assert out is not None
    assert isinstance(out[0], Reset)
    assert not out[0].incomplete
    assert [event.id for event in out[1:] if isinstance(event, Trade)] == ["6", "7"]


def test_past_trades_of_a_subscription_fill_the_hole_or_only_set_the_mark():
    ours = line()
    assert ours.past([trade(number, backfilled=True) for number in (3, 4)], 0) == [], "from before the start"
    assert [event.id for event in ours.take(trade(5), 0) if isinstance(event, Trade)] == ["5"]
    assert ours.past([trade(number, backfilled=True) for number in (4, 5)], 0) == []
    missed = ours.past([trade(number, backfilled=True) for number in (4, 5, 6, 7)], 0)
    assert [event.id for event in missed if isinstance(event, Trade)] == ["6", "7"]
    assert ours.past([trade(9, backfilled=True)], 0) == []
    assert ours.missing_from == 8, "they do not reach back: fetched over REST"


def test_an_id_used_up_by_no_trade_is_not_missed():
    ours = line()
    ours.take(trade(5), 0)
    assert ours.take(Void("A/B", 6), 0) == []
    assert len(ours.take(trade(7), 0)) == 1
    ours.take(trade(10), 0)
    ours.take(Void("A/B", 11), 0)
    ours.take(trade(12), 0)
    assert ours.fill([trade(9, backfilled=True)]) is None, "does not reach back to 7"
    out = ours.fill([trade(number, backfilled=True) for number in (7, 8, 9)]) or []
    assert [event.id for event in out if isinstance(event, Trade)] == ["8", "9", "10", "12"]
    assert ours.missing_from is None
    ours.take(Void("A/B", 15), 0)
    assert ours.fill([trade(number, backfilled=True) for number in (12, 13)]) is None, "14 is missing"
