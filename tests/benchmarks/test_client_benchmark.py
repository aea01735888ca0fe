"""The client benchmark's rows are the engine's, and each side reads all of them."""

from __future__ import annotations

import json

import pytest
from benchmarks.client_side import main as side

from benchmarks import client
from fluxforge import rows
from fluxforge.log import open_log
from fluxforge.topics import Topics

COUNT = 12_000


pytestmark = pytest.mark.usefixtures("synthetic")


def test_its_rows_are_feature_rows_of_every_key() -> None:
    found = [rows.decode(value) for value in client.feature_values(400)]
    assert {row["symbol"] for row in found} == {f"S{n:04d}/USDT" for n in range(client.SYMBOLS)}
    assert len(found) >= 100 and all("ofi_sum_5s" in row for row in found)


@pytest.mark.kafka
@pytest.mark.parametrize("name", client.SIDES)
def test_each_side_reads_every_row(
    kafka_url: str, topics: Topics, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    log = open_log(kafka_url)
    client.fill(log, topics, client.feature_values(400), COUNT)
    log.close()
    side(name, kafka_url.removeprefix("kafka://"), topics.prefix, str(client.PARTITIONS), str(COUNT))
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 < answer["rows"] < COUNT and answer["cpu"] > 0 and answer["thread"] > 0
