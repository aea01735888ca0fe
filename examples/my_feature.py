"""A feature of one's own: flow surprise, the newest OFI of 5 s against the mean and spread of its last 60 rows.

Run it beside the pipeline, from the folder with config.yaml: `python my_feature.py`. It reads the feature rows of every
market as they come and publishes a row of its own for each to the topic `mine.features`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from statistics import fmean, pstdev

from fluxforge import rows
from fluxforge.client import FeatureStream
from fluxforge.log import Output, open_log
from fluxforge.settings import load
from fluxforge.topics import TopicSpec

TOPIC = "mine.features"


def surprise(past: deque[float], flow: float) -> float | None:
    """How many standard deviations `flow` lies from the mean of `past`; None until it can be said."""
    spread = pstdev(past) if len(past) == past.maxlen else 0.0
    return (flow - fmean(past)) / spread if spread else None


def run(start: str = "latest", wanted: float = float("inf")) -> None:
    """Publish a row for each feature row, until `wanted` are made."""
    log = open_log(load().broker.url, load().broker.librdkafka())
    log.create([TopicSpec(TOPIC, load().topics.partitions)])
    appender, made = log.appender(), 0
    past: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=60))
    with FeatureStream(start=start) as feature_rows:
        for row in feature_rows:
            key, flow = f"{row.exchange}|{row.symbol}", row.ofi_sum_5s
            value = {"timestamp": row.timestamp, "symbol": row.symbol, "flow_surprise": surprise(past[key], flow)}
            past[key].append(flow)
            appender.append(Output(TOPIC, key.encode(), rows.encode(value)))
            if (made := made + 1) >= wanted:
                break
    appender.close()
    log.close()


if __name__ == "__main__":
    run()
