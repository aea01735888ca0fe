"""The example of a user's own feature, on the embedded log, rows as the feature engine publishes them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from random import Random
from statistics import fmean, pstdev

import pytest

from fluxforge import rows
from fluxforge.log import Output, TopicPartition, open_log
from fluxforge.settings import load

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_feature.py"


def test_it_publishes_a_row_of_its_own_for_each_feature_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path / 'log.db'}"
    monkeypatch.setenv("FLUXFORGE_BROKER__URL", url)
    rng = Random(1)
    flows = {symbol: [rng.gauss(0, 3) for _ in range(count)] for symbol, count in (("A/B", 70), ("C/D", 30))}
    log = open_log(url)
    log.create(load().topic_specs())
    appender = log.appender()
    for symbol, values in flows.items():
        for i, flow in enumerate(values):
            row = {"exchange": "x", "symbol": symbol, "source": "s", "timestamp": i, "ofi_sum_5s": flow}
            appender.append(Output(load().topic_names().features, f"x|{symbol}".encode(), rows.encode(row)))
    appender.close()
    spec = importlib.util.spec_from_file_location("my_feature", EXAMPLE)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.run("earliest", 100)
    found: dict[str, list[float | None]] = {"A/B": [], "C/D": []}
    for partition in range(log.partitions(example.TOPIC)):
        tp = TopicPartition(example.TOPIC, partition)
        reader = log.reader(tp, log.bounds(tp).first)
        for record in reader.read(1000).records:
            row = rows.decode(record.value)
            assert row["timestamp"] == len(found[row["symbol"]])
            found[row["symbol"]].append(row["flow_surprise"])
        reader.close()
    log.close()
    values = flows["A/B"]
    expected = [(values[i] - fmean(values[i - 60 : i])) / pstdev(values[i - 60 : i]) for i in range(60, 70)]
    assert found == {"A/B": [None] * 60 + [pytest.approx(x) for x in expected], "C/D": [None] * 30}


def test_it_stays_short() -> None:
    assert len([line for line in EXAMPLE.read_text().splitlines() if line.strip()]) <= 40
