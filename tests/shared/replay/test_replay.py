"""A replayed topic is the source: every record once, in order, as it was, wherever the run was cut."""

from __future__ import annotations

import time
from itertools import accumulate
from pathlib import Path

import pytest

from fluxforge import bronze, replay
from fluxforge.bronze.compaction import LAYOUT
from fluxforge.clock import NS
from fluxforge.errors import ConfigError, Fenced, LogError, StorageError
from fluxforge.files.compact import compact
from fluxforge.files.runs import Options
from fluxforge.log import Log, Output, TopicPartition
from fluxforge.replay import Replay, Selection
from fluxforge.replay import run as run_module
from fluxforge.topics import TopicSpec
from s3_server import S3Server
from shared.replay import market

FORMS = ("parquet", "ndjson")


@pytest.fixture
def name(topics: object) -> str:
    """A run that no other test has."""
    return str(topics.prefix)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def small_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many pieces and many commits in a small run."""
    monkeypatch.setattr("fluxforge.replay.feed.PIECE_RECORDS", 17)
    monkeypatch.setattr(run_module, "COMMIT_RECORDS", 40)


def assert_same(log: Log, target: str, source: dict[int, list[market.Record]]) -> None:
    got = market.read(log, target)
    assert {partition: market.bare(records) for partition, records in got.items()} == {
        partition: market.bare(records) for partition, records in source.items()
    }


@pytest.mark.parametrize("form", FORMS)
def test_every_record_as_it_was(log: Log, name: str, tmp_path: Path, form: str) -> None:
    source = market.fill(tmp_path, form=form)  # type: ignore[arg-type]
    with Replay(log, bronze.tree(tmp_path), name) as run:
        assert run.run()
        assert run.state.target == f"replay.{name}.market.raw"
    assert_same(log, run.state.target, source)
    for partition, records in market.read(log, run.state.target).items():
        assert [market.header(one, "source-offset") for one in records] == [str(r.offset) for r in source[partition]]
        assert {market.header(one, "source-log") for one in records} == {None}, "an offset tells which it is"
    assert run.state.complete and run.state.written == 600


def test_from_a_bucket(log: Log, name: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in s3_server.environ.items():
        monkeypatch.setenv(key, value)
    root = f"s3://{s3_server.bucket()}"
    source = market.fill(root, 120)  # type: ignore[arg-type]
    with Replay(log, bronze.tree(root), name) as run:
        assert run.run()
    assert_same(log, run.state.target, source)


def test_compacted_in_the_middle_of_it(log: Log, name: str, tmp_path: Path) -> None:
    source, tree = market.fill(tmp_path), bronze.tree(tmp_path)
    with Replay(log, tree, name) as run:
        assert not run.run(lambda told: run.stop() if told.records > 200 else None)
    assert compact(tree, LAYOUT, Options(grace_s=0.0)).records_before
    with Replay(log, tree, name) as run:
        assert run.run()
    assert_same(log, run.state.target, source)


def test_stopped_again_and_again(log: Log, name: str, tmp_path: Path) -> None:
    """Each part stops at its first commit; what is uncommitted then is dropped, as a kill would do."""
    source, tree = market.fill(tmp_path, 300), bronze.tree(tmp_path)
    parts = 0
    while True:
        parts += 1
        with Replay(log, tree, name) as run:
            if run.run(lambda _, run=run: run.stop()):  # type: ignore[misc]
                break
    assert parts > 4
    assert_same(log, run.state.target, source)
    with Replay(log, tree, name) as run:  # once more, and there is nothing to do
        assert run.run()
    assert_same(log, run.state.target, source)


def test_what_is_not_committed_is_not_there(log: Log, name: str, tmp_path: Path) -> None:
    source, tree = market.fill(tmp_path, 300), bronze.tree(tmp_path)

    def cut(_: object) -> None:
        raise KeyboardInterrupt

    for _ in range(3):
        run = Replay(log, tree, name)
        with pytest.raises(KeyboardInterrupt):
            run.run(cut)
        run._append(next(iter(_first_step(run, tree))))  # the transaction stays open
    with Replay(log, tree, name) as run:
        assert run.run()
    assert_same(log, run.state.target, source)


def _first_step(run: Replay, tree: object) -> list[object]:
    from fluxforge.replay.feed import feeds_of
    from fluxforge.replay.lanes import steps

    return list(next(steps(feeds_of(tree, run.state.positions, Selection()))).take(None))  # type: ignore[arg-type]


def test_chains_that_share_a_partition_are_one_in_time(log: Log, name: str, tmp_path: Path) -> None:
    """A file of trades beside one of books, and a topic that was created anew: one order, wherever the run is cut.

    What was captured late is due with the record before it.
    """
    tree = bronze.tree(tmp_path)
    even = [market.record(n, offset=n // 2) for n in range(0, 200, 2)]
    odd = [
        market.record(n, offset=n // 2, at=market.FIRST + (n if n % 5 else n - 30) * market.STEP)
        for n in range(41, 200, 2)
    ]
    later = [market.record(n, offset=n - 200) for n in range(200, 260)]
    found = []
    for rank, (log_id, records) in enumerate((("b", even), ("a", odd), ("c", later))):
        market.store(tree, records, log_id)
        dues = accumulate((one.timestamp for one in records), max)
        found += [(due, rank, n, log_id, one) for n, (due, one) in enumerate(zip(dues, records, strict=True))]
    while True:
        with Replay(log, tree, name) as run:
            if run.run(lambda _, run=run: run.stop()):  # type: ignore[misc]
                break
    wanted = [each[-2:] for each in sorted(found, key=lambda each: each[:3])]
    assert_same(log, run.state.target, {0: [one for _, one in wanted]})
    got = market.read(log, run.state.target)[0]
    assert [market.header(one, "source-log") for one in got] == [log_id for log_id, _ in wanted]


def test_lines_that_share_an_offset_stay_together(log: Log, name: str, tmp_path: Path) -> None:
    tree = bronze.tree(tmp_path)
    records = [market.record(n, offset=n // 3) for n in range(150)]
    market.store(tree, records, "hash", "import.tardis", batch=30)
    while True:
        with Replay(log, tree, name) as run:
            if run.run(lambda _, run=run: run.stop()):  # type: ignore[misc]
                break
    assert_same(log, run.state.target, {0: records})


SELECTIONS = {
    "symbol": Selection(symbols=("BTC/USDT",)),
    "exchange": Selection(exchanges=("coinbase",)),
    "both": Selection(exchanges=("binance",), symbols=("ETH/USDT",)),
    "channel": Selection(channels=("trades",)),
    "time": Selection(start=market.FIRST + 29 * NS, end=market.FIRST + 45 * NS),
    "topic": Selection(topic=market.TOPIC),
}


@pytest.mark.parametrize("which", SELECTIONS)
@pytest.mark.parametrize("form", FORMS)
def test_selections(name: str, tmp_path: Path, which: str, form: str) -> None:
    log = market.sqlite(tmp_path)
    source, selection = market.fill(tmp_path, form=form), SELECTIONS[which]  # type: ignore[arg-type]
    market.store(bronze.tree(tmp_path), [market.record(7, 9)], "other", "other.raw")
    if which != "topic":
        selection = Selection(
            **{**{f: getattr(selection, f) for f in selection.__struct_fields__}, "topic": market.TOPIC}
        )
    with Replay(log, bronze.tree(tmp_path), name, selection) as run:
        assert run.run()
    wanted = {p: [one for one in records if market.meant(one, which)] for p, records in source.items()}
    assert_same(log, run.state.target, {p: records for p, records in wanted.items() if records})
    log.close()


def test_wire_has_a_topic_of_its_own(name: str, tmp_path: Path) -> None:
    log, tree = market.sqlite(tmp_path), bronze.tree(tmp_path)
    source = market.fill(tmp_path, 60)
    frames = [market.wire(n) for n in range(20)]
    market.store(tree, frames, topic="market.wire")
    with Replay(log, tree, name) as run:
        assert run.run()
    assert_same(log, f"replay.{name}.market.raw", source)
    with Replay(log, tree, f"{name}w", Selection(channels=("wire",))) as run:
        assert run.run()
    assert_same(log, f"replay.{name}w.market.wire", {0: frames})
    log.close()


def test_a_recorded_gap_is_seen_as_a_reset_by_each_key(log: Log, name: str, tmp_path: Path) -> None:
    """And by each once, wherever the run is cut; one without records before it parts nothing."""
    source, tree = market.with_gap(tmp_path), bronze.tree(tmp_path)
    while True:
        with Replay(log, tree, name) as run:
            if run.run(lambda _, run=run: run.stop()):  # type: ignore[misc]
                break
    got = market.read(log, run.state.target)[0]
    resets = [at for at, one in enumerate(got) if market.header(one, "source-gap")]
    assert [market.header(got[at], "source-gap") for at in resets] == ["90-120"] * 4
    for at in resets:
        reset = market.decoded(got[at])
        behind = market.decoded(got[at + 1])
        assert (reset.reason, reset.incomplete, reset.key) == ("gap", True, behind.key)
        assert (reset.ts, reset.capture_ts) == (behind.ts, behind.capture_ts)
        assert got[at].key == got[at + 1].key and got[at].timestamp == got[at + 1].timestamp
    assert min(resets) == len([one for one in source if one.offset < 90])
    assert {got[at].key for at in resets} == {one.key for one in source if one.key != b"odd"}
    assert market.bare([one for at, one in enumerate(got) if at not in resets]) == market.bare(source)


def test_a_gap_before_all_that_is_selected_parts_nothing(name: str, tmp_path: Path) -> None:
    log = market.sqlite(tmp_path)
    market.with_gap(tmp_path)
    with Replay(log, bronze.tree(tmp_path), name, Selection(symbols=("NEW/USDT",))) as run:
        assert run.run()
    assert [market.header(one, "source-gap") for one in market.read(log, run.state.target)[0]] == [None]
    log.close()


class TestTarget:
    def test_has_the_partitions_of_the_source(self, log: Log, name: str, tmp_path: Path) -> None:
        market.store(bronze.tree(tmp_path), [market.record(n, 1) for n in range(9)], topic=f"{name}.raw")
        log.create([TopicSpec(f"{name}.raw", 5)])
        with Replay(log, bronze.tree(tmp_path), name):
            assert log.partitions(f"replay.{name}.market.raw") == 5
        with Replay(log, bronze.tree(tmp_path), f"{name}b", partitions=7):
            assert log.partitions(f"replay.{name}b.market.raw") == 7

    def test_a_live_topic_needs_force_and_is_never_removed(self, log: Log, name: str, tmp_path: Path) -> None:
        source, live = market.fill(tmp_path, 90), f"{name}.raw"
        tree = bronze.tree(tmp_path)
        log.create([TopicSpec(live, 3)])
        with pytest.raises(ConfigError, match="force"):
            Replay(log, tree, name, target=live)
        assert replay.runs(log).count(name) == 0
        with Replay(log, tree, name, target=live, force=True) as run:
            assert run.run()
        assert_same(log, live, source)
        assert live not in replay.clean(log, name)
        assert_same(log, live, source)

    def test_one_that_is_too_small_is_refused(self, log: Log, name: str, tmp_path: Path) -> None:
        market.fill(tmp_path, 90)
        log.create([TopicSpec(f"{name}.raw", 2)])
        with pytest.raises(ConfigError, match="partitions"):
            Replay(log, bronze.tree(tmp_path), name, target=f"{name}.raw", force=True)

    def test_given_and_made_is_removed_by_clean_with_all_that_stands_behind_the_run(
        self, log: Log, name: str, tmp_path: Path
    ) -> None:
        market.fill(tmp_path, 90)
        log.create([TopicSpec(f"replay.{name}.market.bars", 1), TopicSpec(f"{name}.bars", 1)])
        with Replay(log, bronze.tree(tmp_path), name, target=f"{name}.again") as run:
            assert run.run()
        assert name in replay.runs(log)
        mine = [f"replay.{name}.market.bars", f"replay.{name}.state", f"{name}.again"]
        assert replay.clean(log, name) == sorted(mine)
        assert not set(mine) & set(log.topics()) and f"{name}.bars" in log.topics()
        assert name not in replay.runs(log)


class TestRuns:
    def test_another_selection_under_the_name_is_refused(self, log: Log, name: str, tmp_path: Path) -> None:
        market.fill(tmp_path, 90)
        with Replay(log, bronze.tree(tmp_path), name):
            pass
        with pytest.raises(ConfigError, match="begun with"):
            Replay(log, bronze.tree(tmp_path), name, Selection(symbols=("BTC/USDT",)))

    def test_who_takes_a_run_over_shuts_the_other_out(self, log: Log, name: str, tmp_path: Path) -> None:
        source, tree = market.fill(tmp_path, 90), bronze.tree(tmp_path)
        first = Replay(log, tree, name)
        with Replay(log, tree, name) as second:
            with pytest.raises(Fenced):
                first.run()
            assert second.run()
        first.close()
        assert_same(log, second.state.target, source)

    def test_clean_ends_a_run(self, log: Log, name: str, tmp_path: Path) -> None:
        market.fill(tmp_path, 90)
        run = Replay(log, bronze.tree(tmp_path), name)
        replay.clean(log, name)
        with pytest.raises(LogError):
            run.run()
        run.close()

    def test_data_that_is_elsewhere_is_missed(self, log: Log, name: str, tmp_path: Path) -> None:
        market.fill(tmp_path / "a", 90)
        with Replay(log, bronze.tree(tmp_path / "a"), name):
            pass
        with pytest.raises(StorageError, match="does not hold"):
            Replay(log, bronze.tree(tmp_path / "b"), name)

    def test_nothing_to_replay_leaves_nothing_behind(self, log: Log, name: str, tmp_path: Path) -> None:
        market.fill(tmp_path, 90)
        with pytest.raises(StorageError, match="holds nothing"):
            Replay(log, bronze.tree(tmp_path), name, Selection(topic="nobody.raw"))
        assert name not in replay.runs(log)

    def test_what_is_stored_meanwhile_is_not_of_the_run(self, log: Log, name: str, tmp_path: Path) -> None:
        source, tree = market.fill(tmp_path, 90), bronze.tree(tmp_path)
        run = Replay(log, tree, name)
        market.store(tree, [market.record(5)], "new")
        with run:
            assert run.run()
        assert_same(log, run.state.target, source)


class TestPace:
    """One clock for all partitions; time passes only where the run waits."""

    def replayed(self, log: Log, name: str, tmp_path: Path, speed: float) -> tuple[market.Watch, Replay]:
        market.fill(tmp_path, 120)
        watch = market.Watch(log)
        run = Replay(log, bronze.tree(tmp_path), name, speed=speed, clock=watch, wait=watch.wait)
        watch.run = run
        return watch, run

    @pytest.mark.parametrize("speed", [1.0, 10.0])
    def test_no_record_before_its_time_and_none_long_after(self, name: str, tmp_path: Path, speed: float) -> None:
        log = market.sqlite(tmp_path)
        watch, run = self.replayed(log, name, tmp_path, speed)
        with run:
            assert run.run()
        assert watch.seconds == pytest.approx(119 * 0.1 / speed, abs=0.5)
        assert len(watch.seen) > 5
        for at, written in watch.seen:
            due = [n for n in range(120) if n * 0.1 <= at * speed + 1e-6]
            committed = [n for n in range(120) if n * 0.1 <= (at - run_module.COMMIT_SECONDS - 0.05) * speed]
            assert len(committed) <= written <= len(due)
        log.close()

    def test_taken_up_again_it_goes_on_from_where_it_stood(self, name: str, tmp_path: Path) -> None:
        log = market.sqlite(tmp_path)
        watch, run = self.replayed(log, name, tmp_path, 1.0)
        with run:
            watch.at(5.0, run.stop)
            assert not run.run()
        later = market.Watch(log)
        with Replay(log, bronze.tree(tmp_path), name, speed=1.0, clock=later, wait=later.wait) as later.run:
            assert later.run.run()
        assert watch.seconds + later.seconds == pytest.approx(11.9, abs=0.6)
        log.close()

    def test_while_it_is_paused_its_clock_stands(self, name: str, tmp_path: Path) -> None:
        log = market.sqlite(tmp_path)
        watch, run = self.replayed(log, name, tmp_path, 1.0)
        held: list[int] = []

        def hold() -> None:
            held.append(sum(map(len, market.read(log, run.state.target).values())))
            watch.wait(100.0)
            if len(held) == 3:
                run.resume()

        with run:
            watch.at(5.0, run.pause)
            assert run.run(hold=hold)
        assert len(set(held)) == 1 and 45 <= held[0] <= 55
        assert watch.seconds == pytest.approx(300 + 11.9, abs=0.6)
        log.close()


@pytest.mark.kafka
def test_records_of_thirty_days_ago_are_kept(kafka_url: str, name: str, tmp_path: Path) -> None:
    """Brokers drop what is older than a topic's retention within moments: a replay's topic has none."""
    log = market.open_log(kafka_url)
    month_ago = time.time_ns() - 30 * 86_400 * NS
    records = [market.record(n, at=month_ago + n * NS) for n in range(200)]
    market.store(bronze.tree(tmp_path), records)
    with Replay(log, bronze.tree(tmp_path), name) as run:
        assert run.run()
    canary = f"{name}.canary"
    log.create([TopicSpec(canary, 1, retention_ms=7 * 86_400_000)])
    transactor = log.transactor(canary)
    for one in records:
        transactor.append(Output(canary, one.key, one.value, one.headers, one.timestamp, 0))
    transactor.commit()
    transactor.close()
    deadline = time.monotonic() + 60
    while log.bounds(TopicPartition(canary, 0)).first == 0:  # the broker has looked for what is old
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1.0)
    assert_same(log, run.state.target, {0: records})
    log.close()
