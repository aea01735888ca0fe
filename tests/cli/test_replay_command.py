"""`fluxforge replay` and `replay clean`, as a person runs them."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fluxforge import bronze
from fluxforge.errors import ConfigError
from fluxforge.log import open_log
from fluxforge.replay.topics import load
from fluxforge.topics import TopicSpec
from fluxforge_cli.main import app
from shared.replay import market

PROGRAM = str(Path(sys.executable).with_name("fluxforge"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Bronze in `data`, and a configuration whose log is a file beside it."""
    monkeypatch.chdir(tmp_path)
    market.fill(tmp_path / "data", 600)
    (tmp_path / "config.yaml").write_text(f"broker: {{url: 'sqlite:///{tmp_path}/log.db'}}\n")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["replay", *arguments])


def answer(*arguments: str) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def started(folder: Path, *arguments: str, **more: Any) -> subprocess.Popen[Any]:
    """The program at work: something of its run `slow` is committed."""
    words = [PROGRAM, "replay", "--run", "slow", *arguments]
    child = subprocess.Popen(words, cwd=folder, **more)
    until(lambda: written(folder) > 0)
    return child


def written(folder: Path) -> int:
    log = open_log(f"sqlite:///{folder}/log.db")
    state = load(log, "slow")
    log.close()
    return 0 if state is None else state.written


def until(reached: Any) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_replays_and_says_what(folder: Path) -> None:
    found = answer("--run", "june", "--symbol", "BTC/USDT", "--symbol", "ETH/USDT", "--channel", "trades")
    log = market.sqlite(folder)
    got = market.read(log, "replay.june.market.raw")
    log.close()
    assert found == {
        "run": "june", "topic": "replay.june.market.raw", "partitions": 3, "records": sum(map(len, got.values())),
        "complete": True, "chains": 3, "chains_with_gaps": 0,
    }  # fmt: skip
    assert {one.key for records in got.values() for one in records} == {b"binance|BTC/USDT", b"binance|ETH/USDT"}
    again = run("--run", "june", "--symbol", "BTC/USDT", "--symbol", "ETH/USDT", "--channel", "trades")
    assert again.exit_code == 0 and "complete" in again.stdout and f"{found['records']:,} records" in again.stdout


def test_times_partitions_and_a_topic_of_its_own(folder: Path) -> None:
    meant = sum(number % 3 != 2 and number % 53 != 52 for number in range(100, 250))
    found = answer(
        "--run", "short", "--from", "2023-11-14T22:13:30", "--to", "2023-11-14T22:13:45", "--topic", "mine",
        "--partitions", "5", "--source-topic", "market.raw", "--exchange", "binance",
    )  # fmt: skip
    assert (found["topic"], found["partitions"], found["records"]) == ("mine", 5, meant)


def test_never_into_the_live_topic_without_force(folder: Path) -> None:
    log = market.sqlite(folder)
    log.create([TopicSpec("market.raw", 4)])
    refused = run("--run", "june", "--topic", "market.raw")
    assert isinstance(refused.exception, ConfigError) and "--force" in str(refused.exception)
    assert market.read(log, "market.raw") == {}
    assert answer("--run", "june", "--topic", "market.raw", "--force")["records"] == 600
    assert "market.raw" not in run("clean", "--run", "june").stdout
    assert sum(map(len, market.read(log, "market.raw").values())) == 600
    log.close()


def test_clean(folder: Path) -> None:
    for name in ("june", "july", "may"):
        answer("--run", name, "--topic", f"{name}.topic")
    assert run("clean").stdout.split() == ["july", "june", "may"]
    assert json.loads(run("clean", "--run", "june", "--json").stdout) == {"june": ["june.topic", "replay.june.state"]}
    assert list(json.loads(run("clean", "--all", "--json").stdout)) == ["july", "may"]
    assert "no runs" in run("clean").stdout
    log = market.sqlite(folder)
    assert log.topics() == []
    log.close()
    assert "no run june" in str(run("clean", "--run", "june").exception)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "no name"),
        (("--run", "a.b"), "cannot be named"),
        (("--run", "a", "--speed", "fast"), "--speed"),
        (("--run", "a", "--speed", "0x"), "--speed"),
        (("--run", "a", "--channel", "books"), "channel"),
        (("--run", "a", "--channel", "wire", "--channel", "trades"), "wire"),
        (("--run", "a", "--from", "noon"), "noon"),
        (("--run", "a", "--from", "2024-01-02", "--to", "2024-01-01"), "before it begins"),
    ],
)
def test_wrong_options_are_told(folder: Path, arguments: tuple[str, ...], told: str) -> None:
    done = run(*arguments)
    assert isinstance(done.exception, ConfigError) and told in str(done.exception)
    log = market.sqlite(folder)
    assert log.topics() == []
    log.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_at_any_time_it_goes_on(folder: Path, number: signal.Signals) -> None:
    child = started(folder, "--speed", "20x", stdout=subprocess.PIPE, text=True)
    child.send_signal(number)
    told, _ = child.communicate(timeout=60)
    assert child.returncode == (130 if number != signal.SIGKILL else -9)
    assert number == signal.SIGKILL or "goes on" in told
    assert 0 < written(folder) < 600
    assert answer("--run", "slow")["records"] == 600  # at another speed
    log, source = market.sqlite(folder), bronze.tree(folder / "data")
    got = market.read(log, "replay.slow.market.raw")
    log.close()
    for partition, records in got.items():
        id_ = bronze.read(source, market.ChainId("log-1", market.TOPIC, partition))
        assert market.bare(records) == market.bare(list(id_))


def test_stands_while_it_is_suspended(folder: Path) -> None:
    child = started(folder, "--speed", "30x", stdout=subprocess.PIPE, text=True)
    child.send_signal(signal.SIGTSTP)
    until(lambda: Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    before = written(folder)
    time.sleep(0.6)
    assert written(folder) == before < 600
    child.send_signal(signal.SIGCONT)
    assert "600 records" in child.communicate(timeout=60)[0]
    assert child.returncode == 0


def test_its_bar_shows_share_rate_and_time_left(folder: Path) -> None:
    main, terminal = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    child = started(folder, "--speed", "20x", stderr=terminal, stdout=subprocess.DEVNULL, env=environ)
    os.close(terminal)
    shown = b""
    while b"/s, at 2023-11-14 22:1" not in shown or b"0:00:0" not in shown:
        assert select.select([main], [], [], 60)[0]
        shown += os.read(main, 65536)
    assert b"replay.slow.market.raw" in shown and b"%" in shown
    child.kill()
    child.wait()
    os.close(main)
