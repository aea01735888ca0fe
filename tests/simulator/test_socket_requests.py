"""SUBSCRIBE and its siblings, as documented."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from simulator.binance.requests import answer, opening


class Client:
    def __init__(self) -> None:
        self.combined = False
        self.streams: set[str] = set()

    def subscribe(self, streams: Iterable[str]) -> None:
        self.streams.update(streams)

    def unsubscribe(self, streams: Iterable[str]) -> None:
        self.streams.difference_update(streams)

    def ask(self, **request: Any) -> Any:
        return json.loads(answer(self, json.dumps(request)))


@pytest.mark.parametrize(
    ("path", "query", "combined", "streams"),
    [
        ("/ws", "", False, []),
        ("/ws/btcusdt@trade", "", False, ["btcusdt@trade"]),
        ("/ws/btcusdt@trade/ethusdt@depth@100ms", "", False, ["btcusdt@trade", "ethusdt@depth@100ms"]),
        ("/ws/7", "", False, []),
        ("/stream", "", True, []),
        ("/stream", "a@trade/b@trade", True, ["a@trade", "b@trade"]),
        ("/stream/ws/0", "", False, []),
    ],
)
def test_a_path_says_what_the_socket_carries(path: str, query: str, combined: bool, streams: list[str]) -> None:
    assert opening(path, query) == (combined, streams)


def test_subscribe_list_unsubscribe() -> None:
    client = Client()
    assert client.ask(method="SUBSCRIBE", params=["b@trade", "a@depth"], id=1) == {"result": None, "id": 1}
    assert client.ask(method="LIST_SUBSCRIPTIONS", id=3) == {"result": ["a@depth", "b@trade"], "id": 3}
    assert client.ask(method="UNSUBSCRIBE", params=["b@trade", "never@trade"], id="x") == {"result": None, "id": "x"}
    assert client.streams == {"a@depth"}


def test_the_combined_property() -> None:
    client = Client()
    assert client.ask(method="GET_PROPERTY", params=["combined"], id=2) == {"result": False, "id": 2}
    assert client.ask(method="SET_PROPERTY", params=["combined", True], id=5) == {"result": None, "id": 5}
    assert client.combined


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", 3),
        ("[]", 3),
        ('{"id":1}', 2),
        ('{"method":"SHOUT","id":1}', 2),
        ('{"method":"SUBSCRIBE","params":"a@trade","id":1}', 2),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":["a@trade"],"id":1.5}', 2),
        ('{"method":"SET_PROPERTY","params":["combined","yes"],"id":1}', 1),
        ('{"method":"SET_PROPERTY","params":["colour",true],"id":1}', 0),
        ('{"method":"GET_PROPERTY","params":[],"id":1}', 2),
    ],
)
def test_a_wrong_request_is_answered_and_changes_nothing(text: str, code: int) -> None:
    client = Client()
    assert json.loads(answer(client, text))["error"]["code"] == code
    assert not client.streams


def test_a_socket_carries_at_most_1024_streams() -> None:
    client = Client()
    names = [f"s{number}@trade" for number in range(1025)]
    assert client.ask(method="SUBSCRIBE", params=names, id=1)["error"]["code"] == 2
    assert client.ask(method="SUBSCRIBE", params=names[:1024], id=1)["result"] is None
