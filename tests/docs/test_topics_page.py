"""docs/TOPICS.md is what the code says, and the code says something of every topic, field and column."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feature_engine.lake import TABLES as LAKE_TABLES
from fluxforge import codec
from fluxforge.events import EVENT_OF, Event, Kind, ResetReason
from fluxforge_cli import topics_docs as docs
from fluxforge_cli.docstrings import said

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "TOPICS.md").read_text()
FIELD = re.compile(r"^\| (\d+) \| `(\w+)` \| (.*?) \| (.*?) \| (.+) \|$", re.MULTILINE)


def test_the_page_is_what_the_code_says() -> None:
    assert docs.page() == PAGE, "run python -m fluxforge_cli.topics_docs > docs/TOPICS.md"


def test_every_topic_has_a_row() -> None:
    assert re.findall(r"^\| `(market\.[\w.]+)` \|.*(?:MiB) \|$", PAGE, re.MULTILINE) == [s.name for s in docs.specs()]


@pytest.mark.parametrize("kind", EVENT_OF)
def test_a_field_stands_where_the_page_says(kind: Kind) -> None:
    chapter = PAGE.partition(f"### {int(kind)}: ")[2].partition("\n### ")[0].partition("\nReasons")[0]
    common = PAGE.partition("### Fields of every event")[2].partition("\n### ")[0]
    places = {name: int(place) for place, name, *_ in FIELD.findall(common + chapter)}
    event = EVENT_OF[kind]
    assert sorted(places, key=places.__getitem__) == list(event.__struct_fields__)
    given: dict[str, Any] = {
        "exchange": "x",
        "symbol": "A/B",
        "native": "AB",
        "source": "s",
        "collector": "c",
        "connection": "n",
    }
    values: dict[str, Any] = {**given, "ts": None, "capture_ts": 7}
    for field in msgspec.structs.fields(event):
        if field.required and field.name not in values:
            values[field.name] = {"str": "word", "bytes": b"", "float": 1.5}.get(getattr(field.type, "__name__", ""), 3)
    made = event(**values)
    array = msgspec.msgpack.decode(codec.encode(made))
    assert array[0] == int(kind)
    assert {name: array[place] for name, place in places.items()} == {n: getattr(made, n) for n in places}


def test_a_field_nobody_describes_is_an_error() -> None:
    class Other(Event, tag=99, kw_only=True, frozen=True, gc=False):
        """Two fields.

        told, also  by this line,
                    and this
        """

        told: int
        also: int
        untold: int

    assert docs.meaning(Other, "also") == "by this line, and this"
    with pytest.raises(LookupError, match=r"Other\.untold has no description"):
        docs.meaning(Other, "untold")


def test_nothing_is_said_twice() -> None:
    assert [name for event, name in docs._SAID if name in said(event.__doc__, event.__struct_fields__)] == []


def test_reasons_and_groups_are_the_codes() -> None:
    assert all(f"`{reason}`" in PAGE for reason in ResetReason)
    assert f"`market.lake.{'-'.join(LAKE_TABLES)}`" in PAGE
