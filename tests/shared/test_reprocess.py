"""A run as the program drives it, step by step; and what its services are told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path

import pyarrow as pa
import pytest

import live_and_bronze
from fluxforge.cross.config import CrossConfig
from fluxforge.cross.history import History
from fluxforge.cross.table import table
from fluxforge.errors import StorageError
from fluxforge.lake import scan, versions
from fluxforge.lake.diff import diff
from fluxforge.log import Log, open_log
from fluxforge.replay import Selection
from fluxforge.reprocess import Reprocess
from fluxforge.settings import load
from fluxforge.topics import Topics, TopicSpec

OPTIONS = {"max_levels": 3, "horizons": [1, 5], "bar_durations": [1, 5, 30]}
CROSS = {"horizons": [1, 5]}
ETL = {"channels": {"orderbook": {"processor_options": OPTIONS}, "ticker": {"enabled": False}}}


def test_what_the_lake_roles_left_is_stored_and_less_is_not_complete(log: Log, topics: Topics, tmp_path: Path) -> None:
    data, never = tmp_path / "data", threading.Event()
    config = live_and_bronze.configure(tmp_path, log.url, topics.prefix, etl=ETL, cross=CROSS)
    settings = load(config, environ={})
    count = live_and_bronze.run(log, settings, data, seconds=40)
    with Reprocess(log, settings, data, topics.prefix) as made:
        assert made.replayed() and made.replay.state.written == count
        assert all(left >= count for left in made.behind().values())
        live_and_bronze.compute(log, made.settings, lambda group: not made.behind()[group])
        with pytest.raises(StorageError, match="not up to offset"):
            made.finish()
        never.set()
        made.store_rest(never)
        never.clear()
        made.store_rest(never)
        complete = made.finish()
    tables = {"hf", "bars", "trades"}
    days = list(diff(f"{data}@live", f"{data}@{made.version}", tables=tables))
    assert all(day.same for day in days) and {day.table for day in days} == tables == {*complete.rows} - {"cross"}
    assert complete.rows["cross"] == across_markets(f"{data}@{made.version}", settings.cross.config()) > 100
    with Reprocess(log, settings, data, topics.prefix) as again:
        assert again.complete == complete


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_services_are_told_the_run_by_their_environment(
    kind: str, new_root: Callable[[str], str], tmp_path: Path
) -> None:
    """Over a configuration file that has become another since."""
    log = open_log(f"sqlite:///{tmp_path}/log.db")
    config = live_and_bronze.configure(tmp_path, log.url, "market", etl=ETL, cross=CROSS)
    settings = load(config, environ={})
    live_and_bronze.run(log, settings, tmp_path / "data", seconds=5)
    output = settings.storage.output.elsewhere(new_root(kind))
    settings = settings.model_copy(update={"storage": settings.storage.model_copy(update={"output": output})})
    with Reprocess(log, settings, tmp_path / "data", "june", Selection(symbols=("BTC/USDT",))) as made:
        live_and_bronze.configure(tmp_path, log.url, "market", etl={}, topics={"partitions": 9})
        told = load(config, environ=made.environ)
        own = made.settings
    log.close()
    assert told.broker.prefix == own.broker.prefix == "replay.june.market"
    assert (told.etl, told.topics.partitions, told.processor.member) == (own.etl, 3, "1")
    assert told.storage.output == own.storage.output == output.model_copy(update={"version": made.version})
    assert versions.version_of(told.feature_config(), told.bar_config()) == made.version
    assert versions.manifests(output)[0].selection["symbols"] == ["BTC/USDT"]


def test_its_topics_keep_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it rests: nothing may go before it is in the lake."""
    log = open_log(f"sqlite:///{tmp_path}/log.db")
    kept = {"partitions": 3, "raw_retention_hours": -1, "rows_retention_mb": 1}
    settings = load(live_and_bronze.configure(tmp_path, log.url, "market", topics=kept), environ={})
    live_and_bronze.run(log, settings, tmp_path / "data", seconds=5)
    made: list[TopicSpec] = []
    create = log.create

    def noted(specs: Sequence[TopicSpec]) -> None:
        made.extend(specs)
        create(specs)

    monkeypatch.setattr(log, "create", noted)
    with Reprocess(log, settings, tmp_path / "data", "june"):
        pass
    log.close()
    names = ("raw", "features", "bars", "trades", "ticker", "late", "dlq", "features.state", "bars.state")
    assert {spec.name for spec in made} >= {f"replay.june.market.{name}" for name in names}
    assert all((spec.retention_ms, spec.retention_bytes) == (-1, -1) for spec in made)


def across_markets(root: str, config: CrossConfig) -> int:
    """How many rows across markets the lake has, which must be those of its feature rows in one piece."""
    features = scan(root, "hf").to_table()
    names = pa.array([name.replace("-", "/") for name in features["symbol"].to_pylist()])
    features = features.drop(["symbol"]).append_column("symbol", names)
    columns = ["symbol", *table(config).schema.names]
    expected = [{name: row[name] for name in columns} for row in History(config, 3).rows(features)]
    found = scan(root, "cross").to_table().select(columns).to_pylist()
    found = [row | {"symbol": row["symbol"].replace("-", "/")} for row in found]
    assert sorted(found, key=itemgetter("timestamp", "symbol")) == expected
    return len(found)
