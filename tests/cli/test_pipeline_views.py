"""What the supervisor sees and shows: probe, watch, picture, terminal view, lines, summary."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from rich.console import Console

from fluxforge import codec, metrics, rows
from fluxforge.events import BookSnapshot, Event, Heartbeat, Reset, Trade
from fluxforge.kernels.config import FeatureConfig
from fluxforge.log import Log, Output, TopicPartition, open_log
from fluxforge.settings import Settings
from fluxforge_cli.pipeline import lines, plan, probe, view
from fluxforge_cli.pipeline.display import LiveView, PlainLines, choose
from fluxforge_cli.pipeline.picture import Picture, ServiceLine, percentiles
from fluxforge_cli.pipeline.summary import Summary, text
from fluxforge_cli.pipeline.watch import Bar, Market, Watch

MS = 1_000_000
ORIGIN = {"exchange": "x", "native": "AB", "source": "native", "collector": "c", "connection": "1", "ts": None}


def picture(markets: int = 5, services: int = 8) -> Picture:
    made = []
    for n in range(markets):
        bar = Bar("binance", f"S{n}/USDT", 1, 60_001.5, 1.25)
        made.append((Market(f"binance|S{n}/USDT", "binance", 10, 5, 60_000.25, 0.12, -3.5, bar), 12.0))
    return Picture(
        title="FluxForge demo",
        phase="running",
        elapsed=12,
        seconds=60,
        services=[ServiceLine(f"service {n}", "running", 100.0, n) for n in range(services)],
        markets=made,
        events=123_456,
        bronze_rows=100_000,
        segments=42,
        feature_rows=3_210,
        bars=987,
        lake_rows=4_197,
        gaps=7,
        late=8,
        dead=9,
        queue=5,
        capacity=100_000,
        latency=(94.4, 157.6),
        news=("gap: 7 reset(s)",),
    )


class TestView:
    def drawn(self, width: int, height: int = 40, markets: int = 5) -> list[str]:
        console = Console(width=width, height=height, force_terminal=True, color_system=None, file=io.StringIO())
        with console.capture() as captured:
            console.print(view.render(picture(markets), width, height))
        return captured.get().splitlines()

    @pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
    def test_fits_its_width(self, width: int) -> None:
        assert {len(line) for line in self.drawn(width)} == {width}

    @pytest.mark.parametrize("width", [80, 120, 200])
    def test_shows_every_number_whole(self, width: int) -> None:
        shown = "\n".join(self.drawn(width))
        for part in ("123,456", "100,000", "42", "3,210", "987", "4,197", "7, 8, 9", "5 of 100,000", "94 / 158 ms"):
            assert part in shown
        for part in ("60,000.25", "60,001.50", "-3.5", "0.12", "service 7", "S4/USDT binance", "OFI 1s", "12 / 60 s"):
            assert part in shown
        assert "…" not in shown

    def test_counts_the_markets_that_do_not_fit(self) -> None:
        drawn = self.drawn(120, height=20, markets=40)
        assert len(drawn) <= 20
        assert re.search(r"and \d+ more", "\n".join(drawn))


class TestDisplay:
    def test_a_pipe_a_dumb_terminal_and_ci_get_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CI", raising=False)
        able = Console(force_terminal=True, _environ={"TERM": "xterm-256color"})
        assert isinstance(choose(able, plain=False), LiveView)
        assert isinstance(choose(able, plain=True), PlainLines)
        assert isinstance(choose(Console(force_terminal=True, _environ={"TERM": "dumb"}), plain=False), PlainLines)
        assert isinstance(choose(Console(file=io.StringIO()), plain=False), PlainLines)
        monkeypatch.setenv("CI", "true")
        assert isinstance(choose(able, plain=False), PlainLines)

    def test_lines_come_each_five_seconds_and_at_a_new_phase(self) -> None:
        out = io.StringIO()
        with PlainLines(Console(file=out, width=300)) as display:
            for elapsed in range(12):
                display.show(Picture("t", "running", elapsed, 60, [], []))
            display.show(Picture("t", "draining", 12, 60, [], []))
        assert [line.split("s ")[0].strip() for line in out.getvalue().splitlines()] == ["0", "5", "10", "12"]

    def test_a_line_has_the_counts(self) -> None:
        said = lines.line(picture())
        for part in ("events=123456", "bronze=100000", "features=3210", "bars=987", "gaps=7", "latency=94/158ms"):
            assert part in said


class TestProbe:
    def test_reads_what_the_services_serve(self) -> None:
        metrics.POSITION.labels("probe-test", "probe.raw", "3").set(1_234_567)
        metrics.QUEUE.labels("probe-test").set(17)
        metrics.QUEUE_CAPACITY.labels("probe-test").set(1000)
        reading = probe.parse(generate_latest().decode())
        assert reading.positions[TopicPartition("probe.raw", 3)] == 1_234_567
        assert (reading.queue, reading.capacity) == (17, 1000)

    def test_behind_counts_what_was_not_read(self) -> None:
        reading = probe.Reading({TopicPartition("t", 0): 5, TopicPartition("t", 1): 9})
        assert reading.behind({TopicPartition("t", 0): 7, TopicPartition("t", 1): 9, TopicPartition("t", 2): 3}) == 5


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300))
def test_percentiles_are_values_with_so_many_at_or_below(values: list[float]) -> None:
    found = percentiles(values)
    assert found is not None
    for share, value in zip((0.50, 0.99), found, strict=True):
        assert value in values
        assert sum(v <= value for v in values) >= share * len(values)
        assert sum(v < value for v in values) < share * len(values)


def test_percentiles_of_nothing_are_none() -> None:
    assert percentiles([]) is None


class OwnClock:
    def now(self) -> int:
        return 1_700_000_000_250 * MS

    def monotonic(self) -> float:
        return 0.0


class TestWatch:
    @pytest.fixture
    def log(self, tmp_path: Path) -> Iterator[Log]:
        log = open_log(f"sqlite:///{tmp_path}/log.db")
        log.create(Settings().topic_specs())
        yield log
        log.close()

    def publish(self, log: Log, *outputs: Output) -> None:
        appender = log.appender()
        for output in outputs:
            appender.append(output)
        appender.close()

    def event(self, kind: type[Event], symbol: str, **fields: object) -> Output:
        event = kind(**ORIGIN, symbol=symbol, capture_ts=1, **fields)  # type: ignore[arg-type]
        return Output("market.raw", event.key.encode(), codec.encode(event), codec.headers(event))  # type: ignore[arg-type]

    def feature(self, symbol: str, capture_ms: int, mid: float) -> Output:
        row = {"exchange": "x", "symbol": symbol, "source": "native", "capture_ts": capture_ms * MS, "mid_price": mid}
        row |= {"relative_spread": 0.0002, "ofi_sum_1s": float("nan")}
        return Output("market.features", f"x|{symbol}".encode(), rows.encode(row))

    def test_counts_and_keeps_the_newest(self, log: Log) -> None:
        bar = {"exchange": "x", "symbol": "A/B", "duration": 1, "close": 3.5, "volume": 2.0}
        self.publish(
            log,
            self.event(Reset, "A/B", reason="reconnect"),
            self.event(Heartbeat, "A/B"),
            self.event(Reset, "A/B", reason="reconnect", detail="the book's socket is new"),
            self.event(BookSnapshot, "A/B", bids=b"", asks=b""),
            self.event(Reset, "A/B", reason="gap"),
            self.event(Trade, "C/D", id="1", price=1.0, size=1.0, side=1),
            Output("market.raw", b"x|E/F", b"not ours"),
            self.feature("A/B", 1_700_000_000_000, 1.0),
            self.feature("A/B", 1_700_000_000_150, 2.0),
            Output("market.bars", b"x|A/B", rows.encode(bar)),
            Output("market.bars", b"x|A/B", rows.encode(bar | {"duration": 0, "bar_type": "tick", "close": 4.5})),
            Output("market.late", b"x|A/B", b"?"),
            Output("market.dlq", b"x|A/B", b"?"),
        )
        watch = Watch(log, Settings().topic_names(), FeatureConfig(), OwnClock(), from_end=False)
        watch.drain()
        counts = watch.counts
        assert (counts.events, counts.feature_rows, counts.bars, counts.late, counts.dead) == (7, 2, 2, 1, 1)
        assert dict(counts.resets) == {"gap": 1}, "the Resets that begin a key and its book are no gaps"
        assert list(watch.latencies) == [250.0, 100.0]
        market = watch.markets["x|A/B"]
        assert (market.events, market.rows, market.mid, market.spread_bps, market.ofi) == (5, 2, 2.0, 2.0, None)
        assert market.bar is not None and market.bar.close == 3.5, "bars that trades close are not those it shows"
        assert sum(watch.ends(["market.raw"]).values()) == 7
        watch.close()

    def test_of_a_long_run_the_newest_latencies_are_kept(self, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fluxforge_cli.pipeline.watch.LATENCIES", 3)
        self.publish(log, *(self.feature("A/B", 1_700_000_000_000 + 10 * k, 1.0) for k in range(5)))
        watch = Watch(log, Settings().topic_names(), FeatureConfig(), OwnClock(), from_end=False)
        watch.drain()
        assert watch.counts.feature_rows == 5
        assert list(watch.latencies) == [230.0, 220.0, 210.0]
        watch.close()

    def test_from_the_end_sees_only_what_is_new(self, log: Log) -> None:
        self.publish(log, self.event(Heartbeat, "A/B"))
        watch = Watch(log, Settings().topic_names(), FeatureConfig(), OwnClock(), from_end=True)
        watch.drain()
        assert watch.counts.events == 0
        self.publish(log, self.event(Heartbeat, "A/B"))
        watch.drain()
        assert watch.counts.events == 1
        watch.close()


class TestPlan:
    def test_each_collector_runs_one_source_alone(self) -> None:
        native = {"symbols": ["A/B"]}
        settings = Settings.model_validate(
            {"binance": native, "binanceus": native, "ccxt": {"exchanges": {"kraken": {"symbols": ["A/B"]}}}}
        )
        made = {p.name: p.environ for p in plan.collectors(settings, ("binance", "ccxt"), None)}
        assert made == {
            "collector binance": {"FLUXFORGE_BINANCEUS": "null", "FLUXFORGE_CCXT": "{exchanges: {}}"},
            "collector ccxt": {"FLUXFORGE_BINANCE": "null", "FLUXFORGE_BINANCEUS": "null"},
        }


def test_the_summary_has_exactly_its_keys_and_a_query_only_where_rows_are(tmp_path: Path) -> None:
    made = Summary(5, 5, 1, 2, 3, 5, 4, 0, 1, 60.0, 0.1, (1.234, 5.678), tmp_path, "binance")
    assert made.as_json() == {
        "events": 5,
        "bronze_rows": 5,
        "feature_rows": 2,
        "bars": 3,
        "gaps": 0,
        "latency_ms": {"p50": 1.23, "p99": 5.68},
        "data_dir": str(tmp_path),
    }
    assert "pyarrow.dataset" in text(made)
    nothing = Summary(0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, None, tmp_path, "*")
    assert nothing.as_json()["latency_ms"] == {"p50": None, "p99": None}
    assert "pyarrow.dataset" not in text(nothing)
