"""docs/TOPICS.md, written from the topics, events and tables: `python -m fluxforge_cli.topics_docs > docs/TOPICS.md`.

What an event's field means is said by its docstring; by `_SAID` where that speaks of all fields at once.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec
import pyarrow as pa

from fluxforge import codec, rows
from fluxforge.events import (
    EVENT_OF,
    Coverage,
    Event,
    ResetReason,
    Ticker,
    Trade,
)
from fluxforge.kernels.layout import REASONS
from fluxforge.settings import Settings
from fluxforge.topics import DAY_MS, HOUR_MS, Topics, TopicSpec
from fluxforge_cli.docstrings import said


class Traffic(NamedTuple):
    """Who has to do with a topic."""

    key: str
    value: str
    written: str
    read: str


_MARKET = "`exchange\\|symbol`"
_RAW = "feature engine, bar builder, Bronze sink, `fluxforge.client` (tape)"
TRAFFIC: Mapping[str, Traffic] = {
    "raw": Traffic(_MARKET, "[events](#events), all kinds but wire", "collectors", _RAW),
    "wire": Traffic("`exchange\\|`", "[events](#events) of kind wire", "collectors", "Bronze sink"),
    "features": Traffic(_MARKET, "[feature rows](#rows)", "feature engine", "cross and lake roles, clients, dashboard"),
    "features_merged": Traffic(
        "`all`", "feature rows (msgpack), the columns the cross role needs", "cross role", "cross role"
    ),
    "features_cross": Traffic("base asset", "[rows across markets](#rows)", "cross role", "lake role, clients"),
    "bars": Traffic(_MARKET, "[bars](#rows), all durations", "bar builder", "lake role, clients, dashboard"),
    "trades": Traffic(_MARKET, "[trades](#rows)", "feature engine", "lake role, clients"),
    "ticker": Traffic(_MARKET, "[tickers](#rows)", "feature engine", "lake role, clients"),
    "late": Traffic(_MARKET, "[letters](#letters)", "bar builder", "people, `fluxforge tail late`"),
    "dlq": Traffic(
        _MARKET, "[letters](#letters)", "feature engine", "people, `fluxforge tail dlq`; `fluxforge health`"
    ),
    "features_state": Traffic("name of a key, `floor`", "[snapshots](#state)", "feature engine", "feature engine"),
    "bars_state": Traffic("name of a key, `floor`", "[snapshots](#state)", "bar builder", "bar builder"),
}
"""Attribute of `fluxforge.topics.Topics` → its traffic."""

_SETTING = {
    "raw": "`topics.raw_retention_hours`, `raw_retention_mb` (per partition)",
    "features": "`topics.rows_retention_mb` (per partition) caps it, as all topics of rows",
}

_UNITS: Mapping[str, str] = {
    **dict.fromkeys(("ts", "capture_ts", "skew", "since", "until", "dark", "crossed", "skew_p50", "skew_p99"), "ns"),
    **dict.fromkeys(("bids", "asks"), "price, base"),
    **dict.fromkeys(("price", "bid", "ask", "last", "open", "high", "low"), "price"),
    **dict.fromkeys(("size", "bid_size", "ask_size", "volume"), "base"),
    "quote_volume": "quote",
}

_SAID: Mapping[tuple[type[Event], str], str] = {
    (Trade, "id"): "the exchange's own",
    (Trade, "price"): "quote per base currency",
    (Ticker, "bid"): "best bid",
    (Ticker, "bid_size"): "size at the best bid",
    (Ticker, "ask"): "best ask",
    (Ticker, "ask_size"): "size at the best ask",
    (Ticker, "last"): "price of the last trade",
    (Ticker, "open"): "price 24 h ago",
    (Ticker, "high"): "highest price of 24 h",
    (Ticker, "low"): "lowest price of 24 h",
    (Ticker, "volume"): "traded in 24 h",
    (Ticker, "quote_volume"): "the same in quote currency",
    (Ticker, "raw"): "the exchange's own record, JSON; None where there is none",
    (Coverage, "skew_p50"): "median of exchange time − arrival",
    (Coverage, "skew_p99"): "99th percentile of it",
}

_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "trades": {
        "timestamp": "the key's time at the trade, ns",
        "capture_ts": "our clock at arrival, ns",
        "source_partition": "partition of the raw topic",
        "source_offset": "offset of the trade in it",
        "id": "the exchange's own",
        "price": "quote per base currency",
        "size": "base currency",
        "notional": "price · size, quote currency",
        "signed_size": "size · side, base currency",
        "mid": "of the book just before the trade; null without one",
        "spread": "of that book, price",
        "effective_spread": "2·\\|price − mid\\| / mid, 1",
        "side": "of the taker: 1 buy, −1 sell, 0 unknown",
        "backfilled": "fetched over REST after a reconnect",
    },
    "ticker": {
        "timestamp": "the key's time at the ticker, ns",
        "capture_ts": "our clock at arrival, ns",
        "source_partition": "partition of the raw topic",
        "source_offset": "offset of the ticker in it",
        "bid": "best bid",
        "bid_size": "base currency",
        "ask": "best ask",
        "ask_size": "base currency",
        "mid": "(bid + ask) / 2",
        "spread": "ask − bid",
        "last": "price of the last trade",
        "open": "price 24 h ago",
        "high": "highest price of 24 h",
        "low": "lowest price of 24 h",
        "volume": "traded in 24 h, base currency",
        "quote_volume": "the same, quote currency",
    },
}

_HEAD = """\
# Topics

Written from the code by `python -m fluxforge_cli.topics_docs`: names, keys, retention and partitions of every
topic, and what its records hold. Names begin with `broker.prefix`, `market` here.

```sh
.venv/bin/fluxforge topics apply
.venv/bin/fluxforge topics check
.venv/bin/fluxforge tail raw --symbol BTC/USDT
```

`apply` creates what is missing and never changes a topic that is there; `tail` prints any of them, live.
"""

_PARTITIONS = """\
## Partitions and order

All topics but `{merged}` have `topics.partitions` partitions, a count that is set once. A collector's record goes
to the partition of its key, Murmur2 of it as Kafka's Java client has it, so any producer with that partitioner
agrees. A row, a letter or a snapshot goes to the partition of the raw record it was made from. So everything of a
market lies under one partition number in all topics, in one order; rows across markets go to the partition of their
base asset.

Records of one transaction (rows, letters, snapshots, the group's offsets) become visible together: read them with
`isolation.level=read_committed`. The embedded log gives the same guarantees under the same names.

| group | reads | member |
|---|---|---|
| `{prefix}.features`, `{prefix}.bars` | `{raw}` | `processor.member` |
| `{prefix}.bronze` | `{raw}`, `{wire}` where it is captured | the same |
| `{prefix}.cross` | `{features}`, `{merged}` | the same |
| `{prefix}.lake.hf-trades-ticker-cross`, `{prefix}.lake.bars` | those topics of rows | the same |

The files' own records, not the offsets of a group, tell where the sinks go on ([STORAGE.md](STORAGE.md)).
"""

_EVENTS = """\
## Events

A value is a msgpack array (JSON text would be read too): first the kind's number, then the fields by their place.
Fields are only ever appended, each with a default, so a reader takes newer events and older ones. `null` stands for
None. The record's own timestamp is `capture_ts` in ms.

| header | value |
|---|---|
| `kind` | the kind's number, in decimal, so that a reader can skip without decoding |
| `v` | version of the schema, `{version}` |
| `source-offset`, `source-log` | of a record that `fluxforge replay` wrote: where it lay before |
| `source-gap` | `first-next` of a Reset that a replay set where offsets had been lost |

Python: `fluxforge.codec.decode(value)` gives the struct of `fluxforge.events`.

### Fields of every event
"""

_ROWS = """\
## Rows

A value is one JSON object, null for what is not known, never NaN; readers of ours take msgpack as well. Header
`config`: the hash of the configuration and of the kernel's version that made the row; another hash, other columns
or other numbers. `exchange`, `symbol` and `source` (the adapter) stand first, then the columns. The record's
timestamp is when it was written.

| topic | columns |
|---|---|
| `{features}` | [FEATURES.md](FEATURES.md), feature columns; those that `features` chooses |
| `{bars}` | [FEATURES.md](FEATURES.md), bars |
| `{cross}` | [FEATURES.md](FEATURES.md), rows across markets; `exchange` is `all`, `source` is `cross` |
| `{trades}`, `{ticker}` | below |

The lake's tables have the same columns, in the same types ([PARQUET.md](PARQUET.md)).
"""

_LETTERS = """\
## Letters

A record that could not be used goes on as it was, key, value and headers, into `{dlq}`; an event that came after
bars of it had closed into `{late}`. Behind its own headers come:

| header | value |
|---|---|
| `error` | the reason: for `{late}` as `late for bars of 1,5 s`; for `{dlq}` what the decoder said, or a word below |
| `source-topic`, `source-partition`, `source-offset` | where it lies |
| `source-timestamp` | its timestamp there, ms |
| `cut-from` | bytes of the value, where it was too long and had to be cut |

The words: {reasons}. Nothing is lost by a letter: Bronze has the record as well. Of a late event only the bars
named lack it; features take it at the key's present time and say so in `quality`.
"""

_STATE = """\
## State

`{features_state}` and `{bars_state}` are compacted: of each key the newest record counts. A value is a msgpack
array: id of the raw topic, hash of the configuration, raw offset it stands at, offset from which the book is to be
rebuilt (−1: it is inside), and the key's record, zstd. `floor`, written in each commit, says from where on the log
holds events that some snapshot has not seen. Snapshots of another configuration or log are passed over, and the log
is read again.

The cross role's state is, on Kafka, in a changelog topic that quixstreams makes and names, beginning with
`changelog__`. On the embedded log it is in `{cross_state}`, compacted, one partition: keys begin with the id of
`{features}`; `read` holds the next offset of each partition, the others what the kernel remembers.

## Topics of a replay

`fluxforge replay --run june` writes `replay.june.{raw}`, and keeps how far it is in `replay.june.state` (one
partition, compacted). `fluxforge reprocess` puts a whole pipeline behind it under `replay.june.{prefix}.…`. None
has a retention; they take records however old; `fluxforge replay clean` removes them.
"""


def page() -> str:
    """The whole page."""
    return "\n".join(lines()) + "\n"


def lines() -> Iterator[str]:
    """The document."""
    names = Topics()
    words = {name: getattr(names, name) for name in TRAFFIC} | {
        "merged": names.features_merged,
        "cross": names.features_cross,
        "cross_state": names.cross_state,
        "prefix": names.prefix,
        "version": codec.VERSION,
        "reasons": ", ".join(f"`{reason}`" for reason in REASONS[1:]),
    }
    yield _HEAD
    yield from _topics(names)
    yield _PARTITIONS.format(**words)
    yield _EVENTS.format(**words)
    yield from _fields(Event)
    for kind, event in EVENT_OF.items():
        yield f"### {kind}: {event.__name__}"
        yield ""
        yield _summary(event)
        yield ""
        yield from _fields(event)
    reasons = ", ".join(f"`{reason}`" for reason in ResetReason)
    yield f"Reasons of a Reset: {reasons}."
    yield ""
    yield _ROWS.format(**words)
    for table in (rows.TRADES, rows.TICKER):
        yield f"### `{getattr(names, table.name)}`"
        yield ""
        yield "| column | type | meaning |"
        yield "|---|---|---|"
        yield from (
            f"| `{field.name}` | {_arrow(field)} | {_COLUMNS[table.name][field.name]} |" for field in table.schema
        )
        yield ""
    yield _LETTERS.format(**words)
    yield _STATE.format(**words).removesuffix("\n")


def _topics(names: Topics) -> Iterator[str]:
    attribute = {getattr(names, name): name for name in TRAFFIC}
    yield "| topic | key | value | written by | read by | kept | largest record |"
    yield "|---|---|---|---|---|---|---|"
    for spec in specs():
        traffic = TRAFFIC[attribute[spec.name]]
        cells = (f"`{spec.name}`", *traffic, _kept(spec), f"{spec.max_message_bytes / 2**20:.3g} MiB")
        yield "| " + " | ".join(cells) + " |"
    yield ""
    yield from (f"- `{getattr(names, name)}`: {text}." for name, text in _SETTING.items())
    yield f"- `{names.wire}` is there with `ingestion.capture_wire` alone."
    yield ""


def specs() -> list[TopicSpec]:
    """Every topic there can be, with its defaults."""
    return Settings.model_validate({"ingestion": {"capture_wire": True}}).topic_specs()


def _kept(spec: TopicSpec) -> str:
    if spec.compact:
        return "newest of each key (compacted)"
    days, rest = divmod(spec.retention_ms, DAY_MS)
    return f"{days} d" if not rest else f"{spec.retention_ms / HOUR_MS:g} h"


def _fields(event: type[Event]) -> Iterator[str]:
    """A table of its own fields, or of what all have."""
    own = [name for name in event.__struct_fields__ if event is Event or name not in Event.__struct_fields__]
    if not own:
        return
    yield "| place | field | type | unit | meaning |"
    yield "|---|---|---|---|---|"
    types = {field.name: field.type for field in msgspec.structs.fields(event)}
    for name in own:
        place = event.__struct_fields__.index(name) + 1
        yield f"| {place} | `{name}` | {_type(types[name])} | {_UNITS.get(name, '')} | {meaning(event, name)} |"
    yield ""


def meaning(event: type[Event], field: str) -> str:
    """What a field means. Raises LookupError where nobody says it."""
    text = said(event.__doc__, event.__struct_fields__).get(field) or _SAID.get((event, field))
    if text is None:
        raise LookupError(f"{event.__name__}.{field} has no description: its docstring must have a line for it")
    return text


def _summary(event: type[Event]) -> str:
    return inspect.cleandoc(event.__doc__ or "").partition("\n\n")[0].replace("\n", " ")


def _type(annotation: object) -> str:
    """As msgpack has it."""
    kind = msgspec.inspect.type_info(annotation)
    parts = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    names = {"IntType": "integer", "FloatType": "float", "StrType": "text", "BytesType": "bytes", "BoolType": "boolean"}
    return " or ".join(names.get(type(part).__name__, "null") for part in parts)


def _arrow(field: pa.Field) -> str:
    return str(field.type).replace("double", "float64")


if __name__ == "__main__":
    sys.stdout.write(page())
