"""docs/CONFIGURATION.md is what the models say, and they say something of every setting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from fluxforge.settings import Settings, environment, known_keys, load
from fluxforge_cli import configuration_docs as docs

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "CONFIGURATION.md").read_text()
ROWS = re.findall(r"^\| `([^`]+)`<br>`([^`]+)` \| (.*) \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)


def test_the_page_is_what_the_models_say() -> None:
    assert docs.page() == PAGE, "run python -m fluxforge_cli.configuration_docs > docs/CONFIGURATION.md"


def test_every_setting_has_a_row() -> None:
    assert [name for name, *_ in ROWS] == [key.replace("*", "NAME") for key in known_keys()]
    assert all(cell.strip() for row in ROWS for cell in row)


def test_every_variable_is_its_setting() -> None:
    for name, variable, *_ in ROWS:
        ((path, _),) = environment.read({variable: "1"}).items()
        assert ".".join(path) == name.lower()


def test_a_setting_nobody_describes_is_an_error() -> None:
    class Section(BaseModel):
        """Two settings.

        told  by this line
        """

        told: int = 1
        untold: int = 2

    assert docs.meaning(Section, "told") == "by this line"
    with pytest.raises(LookupError, match=r"Section\.untold has no description"):
        docs.meaning(Section, "untold")


def test_nothing_is_said_twice() -> None:
    assert [field for model, field in docs._SAID if field in docs.own_words(model)] == []


def test_secrets_are_named() -> None:
    named = PAGE.partition("These are secrets:")[2].partition("\n## ")[0]
    secret = [one.name for one in docs.settings(Settings) if docs.is_secret(one.info)]
    assert secret and all(f"`{name}`" in named for name in secret)
    assert len(re.findall("`", named)) == 2 * len(secret)


def test_its_variables_are_settings(tmp_path: Path) -> None:
    (tmp_path / "kafka").write_text("word\n")
    (block,) = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    lines = [line.partition("=") for line in block.replace("/run/secrets", str(tmp_path)).splitlines()]
    settings = load(None, environ={name: value.strip('"') for name, _, value in lines})
    assert settings.binance is not None and settings.binance.symbols == ("BTC/USDT", "ETH/USDT")
    assert settings.topics.raw_retention_hours == 48
    assert settings.ccxt.exchanges["kraken"].symbols == ("BTC/USD",)
    assert settings.broker.librdkafka() == {"sasl.password": "word"}
