"""Rows across markets in a batch: those of all feature rows in one piece, however they come together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard

from cross_market import MARKETS, PARTITIONS
from feature_engine import cross_step
from fluxforge import bronze, codec, etl
from fluxforge.bronze import BronzeWriter
from fluxforge.clock import MS, NS
from fluxforge.codec import headers_of
from fluxforge.cross.config import CrossConfig
from fluxforge.cross.history import History
from fluxforge.cross.table import table
from fluxforge.errors import ConfigError, StorageError
from fluxforge.etl import Window, across, row_order
from fluxforge.events import Kind
from fluxforge.files import STEPS, Chain, ChainId, commits
from fluxforge.files.compact import compact
from fluxforge.files.runs import Options
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.lake import LakeWriter, lake_tree, scan
from fluxforge.lake.compaction import LAYOUT
from fluxforge.log import Record
from fluxforge.validate import validate
from fluxforge_cli.importer import land
from fluxforge_cli.importer.ccxt_ndjson import parse

CONFIG = CrossConfig()
FEATURES, BARS = FeatureConfig(hf_emit_interval=0.5), BarConfig(durations=(60,))
MIDNIGHT = 1_700_006_400
DAYS = ("2023-11-14", "2023-11-15")
SECONDS = 160
SYMBOLS = {symbol.replace("/", "-").replace(":", "_"): symbol for _, symbol, _ in MARKETS}
NAMES = ("symbol", *table(CONFIG).schema.names)

Row = dict[str, Any]
Parts = Mapping[int, Sequence[Record]]


def lines(seed: int, start: int, seconds: int, markets: Sequence[tuple[str, str, int]] = MARKETS) -> list[bytes]:
    """ccxt lines of books, trades and tickers from `start` on (s), in order of capture; clocks apart, silences."""
    rng = Random(seed)
    found = []
    for exchange, symbol, _ in markets:
        mid, skew, quiet = 100.0 * len(symbol), rng.randrange(400), 0
        for tick in range(seconds * 2):
            if rng.random() < 0.01:
                quiet = tick + rng.randrange(90)
            if tick < quiet and tick < seconds * 2 - 4:
                continue
            mid *= 1 + rng.choice((0, 0, 1e-4, -1e-4))
            arrived = start * 1000 + tick * 500 + rng.randrange(500)
            stamp = {"timestamp": arrived - skew - rng.randrange(100)}
            if rng.random() < 0.2:
                data: Any = [{"id": str(tick), "price": mid, "amount": 1.0, "side": "buy"} | stamp]
                channel = "trades"
            else:
                bids, asks = ([[mid * (1 + s * 1e-5 * k), rng.uniform(0.1, 5)] for k in range(1, 6)] for s in (-1, 1))
                data, channel = {"bids": bids, "asks": asks} | stamp, "orderbook"
            message = {"exchange": exchange, "symbol": symbol, "channel": channel, "capture_ts": arrived * MS}
            found.append((arrived, json.dumps(message | {"data": data}).encode()))
    return [line for _, line in sorted(found, key=lambda each: each[0])]


def raw(seed: int, start: int = MIDNIGHT - 70, seconds: int = SECONDS) -> Parts:
    """The same as records of the raw topic's partitions."""
    where = {(exchange, symbol): partition for exchange, symbol, partition in MARKETS}
    found: dict[int, list[Record]] = {partition: [] for partition in range(PARTITIONS)}
    for line in lines(seed, start, seconds):
        for e in parse(line, "f")[0]:
            part = found[where[e.exchange, e.symbol]]
            value, headers = codec.encode(e), codec.headers(e)
            number = where[e.exchange, e.symbol]
            part.append(Record(number, 3 * len(part), e.capture_ts // MS, e.key.encode(), value, headers))
    return found


def store(data: Path, parts: Parts, batch: int = 60) -> None:
    for partition, records in parts.items():
        chain = ChainId("cluster", "market.raw", partition)
        with closing(Chain.open(bronze.tree(data), chain, first=0)) as opened:
            writer = BronzeWriter(opened)
            for at in range(0, len(records), batch):
                some = records[at : at + batch]
                writer.append(some)
                writer.commit(some[-1].offset + 1)


def run(data: Path, output: Path | None = None, config: CrossConfig | None = CONFIG, **options: Any) -> etl.Result:
    return etl.run(data, output, features=FEATURES, bars=BARS, tables=["hf", "bars"], cross=config, **options)


def made(root: Path) -> list[Row]:
    """The rows in the lake, by time and symbol."""
    found = scan(root, "cross").to_table().select(NAMES).to_pylist()
    rows = [row | {"symbol": row["symbol"].replace("-", "/").replace("_", ":")} for row in found]
    return sorted(rows, key=lambda row: (row["timestamp"], row["symbol"]))


def features(root: Path) -> pa.Table:
    """The lake's feature rows as they were published."""
    found = scan(root, "hf").to_table()
    names = pa.array([SYMBOLS[name] for name in found["symbol"].to_pylist()])
    return found.drop(["symbol"]).append_column("symbol", names)


def expected(root: Path) -> list[Row]:
    """The rows of all feature rows in one piece."""
    rows = History(CONFIG, PARTITIONS).rows(features(root))
    return sorted(({n: row[n] for n in NAMES} for row in rows), key=lambda row: (row["timestamp"], row["symbol"]))


def times(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (root / "processed").rglob("*.*")}


PARTS = raw(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    store(data, PARTS)
    return data


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake of all of it in one run."""
    output = tmp_path_factory.mktemp("whole")
    result = run(data, output)
    assert (result.rows["cross"], result.behind) == (len(made(output)), 0)
    return output


def test_they_are_those_of_all_feature_rows_in_one_piece(whole: Path) -> None:
    found = made(whole)
    assert found == expected(whole)
    assert len(found) > 500 and {row["timestamp"] // (86_400 * NS) for row in found} == {19675, 19676}
    assert scan(whole, "cross").schema.names[:-3] == table(CONFIG).schema.names


def test_they_are_those_that_the_role_publishes(whole: Path) -> None:
    """Fed as live: by capture time, whatever the partition."""
    ordered = features(whole).sort_by([("capture_ts", "ascending"), ("source_offset", "ascending")])
    step, state, rows = cross_step.Step(CONFIG, PARTITIONS, "t"), State(), list[Row]()
    for feature in ordered.to_pylist():
        rows += step(feature | {"reading": [[], []]}, state)  # type: ignore[arg-type]
    found = [{name: row[name] for name in NAMES} for row in rows]
    assert sorted(found, key=lambda row: (row["timestamp"], row["symbol"])) == made(whole)


class State:
    """A state store in memory."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def get_bytes(self, key: str) -> bytes | None:
        return self._values.get(key)

    def set_bytes(self, key: str, value: bytes) -> None:
        self._values[key] = value


def test_with_nothing_new_it_does_nothing(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path)
    before = times(tmp_path)
    assert run(data, tmp_path) == etl.Result()
    assert times(tmp_path) == before


def test_day_by_day_is_all_at_once(data: Path, whole: Path, tmp_path: Path) -> None:
    for day in DAYS:
        window = Window.of_days(day, day)
        assert run(data, tmp_path, window=window).rows["cross"] > 0
        found = made(tmp_path)
        assert found == made(whole)[: len(found)]
        before = times(tmp_path)
        assert not run(data, tmp_path, window=window).rows
        assert times(tmp_path) == before
    assert made(tmp_path) == made(whole)


def test_a_market_that_is_silent_where_a_day_ends_does_not_part_the_days(tmp_path: Path) -> None:
    """Its next row was captured just behind the day's tail, and counts before the last ones of the others."""
    silence = range((MIDNIGHT - 40) * 1000, (MIDNIGHT + 60) * 1000)
    store(tmp_path, {p: [one for one in part if p != 1 or one.timestamp not in silence] for p, part in PARTS.items()})
    for day in DAYS:
        assert run(tmp_path, window=Window.of_days(day, day)).behind == 0
    assert made(tmp_path) == expected(tmp_path)


@pytest.mark.parametrize("workers", [2, 3])
def test_processes_that_share_the_work_make_no_difference(
    data: Path, whole: Path, tmp_path: Path, workers: int
) -> None:
    assert run(data, tmp_path, workers=workers).rows["cross"] == len(made(whole))
    assert made(tmp_path) == made(whole)


@pytest.mark.parametrize("seed", range(3))
def test_partitions_that_grow_unevenly_give_the_same(whole: Path, tmp_path: Path, seed: int) -> None:
    """One may be behind another by more than the kernel's patience; what is stored is right at any time."""
    rng, begun = Random(seed), dict.fromkeys(PARTS, 0)
    while any(begun[p] < len(PARTS[p]) for p in PARTS):
        p = rng.choice([p for p in PARTS if begun[p] < len(PARTS[p])])
        count = rng.choice([30, 100, 400])
        store(tmp_path, {p: PARTS[p][begun[p] : begun[p] + count]})
        begun[p] += count
        if all(begun.values()):
            assert run(tmp_path).behind == 0
            found = made(tmp_path) if (tmp_path / "processed" / "cross").exists() else []
            assert found == made(whole)[: len(found)]
    assert made(tmp_path) == made(whole)


@pytest.mark.parametrize("at_once", [row_order.AT_ONCE, 50])
@pytest.mark.parametrize("when", ["between", "before"])
def test_compacted_feature_rows_give_the_same(
    data: Path, whole: Path, tmp_path: Path, when: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_order, "AT_ONCE", at_once)
    run(data, tmp_path, CONFIG if when == "between" else None, window=Window.of_days(DAYS[0], DAYS[0]))
    assert compact(lake_tree(tmp_path), LAYOUT, Options(grace_s=0.0)).records_before > 0
    run(data, tmp_path)
    assert made(tmp_path) == made(whole)


def test_compacted_themselves_they_go_on(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(across, "COMMIT_BYTES", 1)
    monkeypatch.setattr(across, "TURN", 100)
    for day in DAYS:
        run(data, tmp_path, window=Window.of_days(day, day))
        before = len(list(commits(lake_tree(tmp_path), across.CHAIN)))
        compact(lake_tree(tmp_path), LAYOUT, Options(grace_s=0.0))
        assert len(list(commits(lake_tree(tmp_path), across.CHAIN))) < before
    assert made(tmp_path) == made(whole)
    assert not validate(tmp_path, "lake").problems
    run(data, tmp_path, verify=True)
    assert run(data, tmp_path) == etl.Result()


class Cut(BaseException):
    """The end of a process."""


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Every turn is committed; the run ends where it is for the n-th time at a place, and nothing is tidied up."""
    monkeypatch.setattr(across, "COMMIT_BYTES", 1)
    monkeypatch.setattr(across, "TURN", 40)
    opens, commits, closes = LakeWriter.open, across.Across._commit, LakeWriter.close

    def cut(place: str, n: int) -> None:
        left = [n]

        def step(name: str) -> None:
            if name == place:
                left[0] -= 1
                if not left[0]:
                    raise Cut

        def opened(*args: Any, **options: Any) -> LakeWriter:
            return opens(*args, **options, **({"step": step} if args[1].name == "cross" else {}))

        def committed(*args: Any) -> int:
            step("ahead of the commit")
            count = commits(*args)
            step("behind the commit")
            return count

        monkeypatch.setattr(across.LakeWriter, "open", opened)
        monkeypatch.setattr(across.Across, "_commit", committed)
        monkeypatch.setattr(LakeWriter, "close", lambda self: self._chain._lock.release() if n else closes(self))

    return cut


PLACES = ("ahead of the commit", *STEPS, "behind the commit")


@pytest.mark.parametrize("place", PLACES)
def test_cut_off_anywhere_it_goes_on(
    data: Path, whole: Path, tmp_path: Path, place: str, often: Callable[[str, int], None]
) -> None:
    run(data, tmp_path, None)
    found: list[Row] = []
    for n in (1, 2, 3, 12):
        often(place, n)
        with pytest.raises(Cut):
            run(data, tmp_path)
        if (tmp_path / "processed" / "cross").exists():
            found = made(tmp_path)
        assert found == made(whole)[: len(found)]
    assert len(found) > 20
    often("", 0)
    assert run(data, tmp_path).rows["cross"] == len(made(whole)) - len(found)
    assert made(tmp_path) == made(whole)
    assert len(list((tmp_path / "processed" / across.FOLDER).iterdir())) == 1
    assert not validate(tmp_path, "lake").problems
    assert run(data, tmp_path) == etl.Result()


def test_it_can_be_stopped(data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(across, "TURN", 100)
    monkeypatch.setattr(across, "COMMIT_BYTES", 1)
    calls = [0]

    def stop(_done: int, _total: int) -> None:
        calls[0] += 1
        if scan_or_none(tmp_path) and calls[0] % 4 == 0:
            raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(data, tmp_path, progress=stop)
    run(data, tmp_path)
    assert made(tmp_path) == made(whole)


def scan_or_none(root: Path) -> bool:
    return (root / "processed" / "cross").exists()


@pytest.mark.parametrize("harm", ["gone", "cut short", "another's"])
def test_without_what_it_goes_on_from_all_is_read_again(data: Path, whole: Path, tmp_path: Path, harm: str) -> None:
    run(data, tmp_path, window=Window.of_days(DAYS[0], DAYS[0]))
    (state,) = (tmp_path / "processed" / across.FOLDER).iterdir()
    if harm == "gone":
        state.unlink()
    elif harm == "cut short":
        state.write_bytes(state.read_bytes()[:-9])
    else:
        (other,) = (whole / "processed" / across.FOLDER).iterdir()
        state.write_bytes(other.read_bytes())
    run(data, tmp_path)
    assert made(tmp_path) == made(whole)


def test_what_is_stored_is_verified_where_that_is_asked_for(data: Path, whole: Path, tmp_path: Path) -> None:
    for day in DAYS:
        run(data, tmp_path, window=Window.of_days(day, day))
    folder = tmp_path / "processed" / "_commits" / across.CHAIN.folder
    records = sorted(folder.iterdir())
    assert "cross" not in run(data, tmp_path, verify=True).rows
    assert sorted(folder.iterdir()) == records
    record = records[1]
    stored = json.loads(record.read_bytes())
    stored["meta"]["row_hash"] = "0" * 64
    record.write_text(json.dumps(stored))
    with pytest.raises(StorageError, match=r"cross rows of times .* come out otherwise"):
        run(data, tmp_path, verify=True)
    assert run(data, tmp_path) == etl.Result()


def bring(data: Path, name: str, found: Sequence[bytes]) -> None:
    path = data / name
    data.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(found))
    land([path], "ccxt-ndjson", data)


class TestFiles:
    """Imported files: all of one partition, each a chain."""

    def test_brought_one_by_one_they_are_one(self, tmp_path: Path) -> None:
        every, single, found = tmp_path / "every", tmp_path / "single", lines(2, MIDNIGHT - 40, 80)
        bring(every, "all", found)
        run(every)
        for at in range(0, len(found), 150):
            bring(single, f"{at}", found[at : at + 150])
            assert run(single).behind == 0
        assert made(single) == made(every) == expected(every)
        assert len(made(every)) > 300

    def test_beside_each_other_they_are_interleaved(self, tmp_path: Path) -> None:
        every, apart, found = tmp_path / "every", tmp_path / "apart", lines(3, MIDNIGHT - 40, 80)
        bring(every, "all", found)
        run(every)
        for exchange in ("binance", "coinbase", "kraken"):
            bring(apart, exchange, [line for line in found if exchange.encode() in line])
        for day in DAYS:
            run(apart, window=Window.of_days(day, day))
        assert made(apart) == made(every)

    def test_what_comes_behind_is_told_and_changes_nothing(self, tmp_path: Path) -> None:
        later = lines(4, MIDNIGHT + 300, 60, MARKETS[:3])
        bring(tmp_path, "later", later[:-20])
        run(tmp_path)
        stored = made(tmp_path)
        bring(tmp_path, "earlier", lines(5, MIDNIGHT, 60, MARKETS[5:6]))
        bring(tmp_path, "rest", later[-20:])
        result = run(tmp_path)
        old = scan(tmp_path, "hf", exchange="binance", symbol="SOL/USDT").to_table()
        assert old.num_rows > 20 and result.behind == old.num_rows
        found = made(tmp_path)
        assert found[: len(stored)] == stored and len(found) > len(stored)
        assert {row["symbol"] for row in found} == {"BTC/USD"}
        (state,) = (tmp_path / "processed" / across.FOLDER).iterdir()
        assert b"SOL/USDT" not in zstandard.decompress(state.read_bytes()), "too old to count, it is not remembered"
        assert run(tmp_path) == etl.Result()


def test_a_partition_that_has_ended_is_waited_for_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = PARTS[1][: len(PARTS[1]) // 4]
    store(tmp_path, {**PARTS, 1: ended})
    run(tmp_path)
    waiting = made(tmp_path)[-1]["timestamp"]
    patience = round(CONFIG.patience * NS)
    assert waiting <= ended[-1].timestamp * MS + patience
    monkeypatch.setattr(across, "ENDED", 40 * NS)
    run(tmp_path)
    assert made(tmp_path) == expected(tmp_path)
    assert made(tmp_path)[-1]["timestamp"] > waiting


def test_a_market_without_rows_for_long_holds_nothing_up_for_good(tmp_path: Path) -> None:
    """A partition of trades alone: its Bronze goes on, and so do the rows."""
    trades = headers_of(Kind.TRADE)
    alone = {p: [record for record in part if p != 1 or record.headers == trades] for p, part in PARTS.items()}
    store(tmp_path, alone)
    assert run(tmp_path).behind == 0
    found = made(tmp_path)
    assert found == expected(tmp_path)[: len(found)]
    last = alone[1][-1].timestamp * MS - round(CONFIG.patience * NS)
    assert last - 2 * NS < found[-1]["timestamp"] <= last


def test_what_must_not_mix_is_refused(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path)
    with pytest.raises(StorageError, match="cross rows of configuration"):
        run(data, tmp_path, CrossConfig(stale=3.0))
    with pytest.raises(ConfigError, match="do not carry ofi_sum_2s"):
        run(data, tmp_path, CrossConfig(horizons=(2,)))


def pieces(root: Path) -> list[row_order.Piece]:
    """All feature rows of the lake as they are read."""
    tree, columns = lake_tree(root), ("timestamp", "capture_ts", *CONFIG.columns)
    chains = [ChainId("cluster", "market.raw.hf", p) for p in range(PARTITIONS)]
    parts = [
        row_order.Partition([row_order.Stored(tree, chain, i, columns, row_order.Place())], 0)
        for i, chain in enumerate(chains)
    ]
    return list(row_order.in_order([(part, None) for part in parts]))


def test_the_reader_holds_no_more_than_it_reads_at_once(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_order, "AT_ONCE", 40)
    sizes = [len(piece.at) for piece in pieces(whole)]
    assert sum(sizes) == features(whole).num_rows
    assert max(sizes) < 8 * 40 * PARTITIONS
    assert np.median(sizes) < 4 * 40


def test_the_reader_gives_each_row_once_wherever_it_parts_them(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_order, "AT_ONCE", 4)
    found = [tuple(row.values()) for piece in pieces(whole) for row in piece.rows.to_pylist()]
    assert len(found) == len(set(found)) == features(whole).num_rows
