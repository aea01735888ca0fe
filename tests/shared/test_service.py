"""The scaffolding of a service: options, exit codes, signals, errors, metrics."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxforge import endpoint, metrics, service
from fluxforge.errors import ConfigError, LogUnavailable, PortInUse
from fluxforge.service import Role, Stop
from fluxforge.settings import Settings

PROGRAM = """
import asyncio, logging, sys
from fluxforge import service
from fluxforge.errors import LogUnavailable

def check(settings):
    yield f"log: {settings.broker.url}"

def threads(settings, stop):
    print("ready", flush=True)
    stop.wait()
    print("flushed", flush=True)

def coroutines(settings, stop):
    async def run():
        print("ready", flush=True)
        await stop.wait_async()
        print("flushed", flush=True)
    asyncio.run(run())

def deaf(settings, stop):
    print("ready", flush=True)
    while not stop.is_set():
        stop.wait(0.01)
    print("stopping", flush=True)
    import time
    while True:
        time.sleep(0.01)

def broken(settings, stop):
    raise LogUnavailable("no log at x", hint="start it")

roles = {name: service.Role(check, globals()[name]) for name in ("threads", "coroutines", "deaf", "broken")}
raise SystemExit(service.main("probe", roles))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "probe.py"
    path.write_text(textwrap.dedent(PROGRAM))
    return path


def run(program: Path, *options: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(program), "--metrics-port", "off", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=program.parent,
        env={**os.environ, **environ},
    )


@pytest.mark.parametrize("role", ["threads", "coroutines"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_role_in_order(program: Path, role: str, number: signal.Signals) -> None:
    with run(program, "--role", role) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        out, err = child.communicate(timeout=120)
    assert (child.returncode, out) == (0, "flushed\n")
    assert f"probe ({role}) stopped" in err


def test_a_second_signal_ends_a_role_that_hangs(program: Path) -> None:
    with run(program, "--role", "deaf") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "stopping\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=120) == service.INTERRUPTED
        child.communicate()


def test_an_error_of_ours_is_two_lines_and_no_traceback(program: Path) -> None:
    with run(program, "--role", "broken") as child:
        _, err = child.communicate(timeout=120)
    assert child.returncode == service.FAILED
    assert err.splitlines()[-2:] == ["error: no log at x", "hint:  start it"]
    assert "Traceback" not in err
    with run(program, "--role", "broken", "--log-level", "DEBUG") as child:
        _, err = child.communicate(timeout=120)
    assert "Traceback" in err


def test_check_says_what_was_tried(program: Path) -> None:
    with run(program, "--check", FLUXFORGE_BROKER__URL="sqlite:///x.db") as child:
        out, _ = child.communicate(timeout=120)
    assert (child.returncode, out.splitlines()) == (
        0,
        ["ok  configuration: defaults", "ok  log: sqlite:///x.db", "probe (threads) can run"],
    )


def test_a_wrong_configuration_is_exit_code_2(program: Path) -> None:
    with run(program, "--check", FLUXFORGE_BROKER__ULR="x") as child:
        out, err = child.communicate(timeout=120)
    assert (child.returncode, out) == (service.MISCONFIGURED, "")
    assert err.startswith("error: FLUXFORGE_BROKER__ULR: broker.ulr: unknown key; did you mean broker.url?\nhint: ")


@pytest.mark.parametrize("options", [["--role", "none"], ["--metrics-port", "x"], ["--metrics-port", "70000"]])
def test_a_wrong_option_is_exit_code_2(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    roles = {"only": Role(lambda _settings: [], lambda _settings, _stop: None)}
    with pytest.raises(SystemExit) as caught:
        service.main("probe", roles, options)
    assert caught.value.code == service.MISCONFIGURED
    assert options[1] in capsys.readouterr().err


def test_codes_of_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert service.report(ConfigError("wrong")) == service.MISCONFIGURED
    assert service.report(LogUnavailable("gone", hint="wait")) == service.FAILED
    assert capsys.readouterr().err == "error: wrong\nerror: gone\nhint:  wait\n"


class TestStop:
    def test_is_seen_by_threads_and_coroutines_however_late(self) -> None:
        stop = Stop()
        assert not stop.wait(0)
        stop.set()
        assert stop.is_set() and stop.wait(0)
        asyncio.run(asyncio.wait_for(stop.wait_async(), 5))

    def test_wakes_every_coroutine_that_waits(self) -> None:
        stop = Stop()

        async def both() -> None:
            waits = [asyncio.create_task(stop.wait_async()) for _ in range(2)]
            await asyncio.sleep(0)
            stop.set()
            await asyncio.wait_for(asyncio.gather(*waits), 120)

        asyncio.run(both())


class TestMetrics:
    @pytest.fixture
    def taken(self) -> Iterator[int]:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            yield listener.getsockname()[1]

    def test_a_port_in_use_is_named(self, taken: int) -> None:
        with pytest.raises(PortInUse, match=f"127.0.0.1:{taken} cannot be listened on"):
            endpoint.serve("probe", "127.0.0.1", taken)

    def test_what_is_counted_is_served(self) -> None:
        port = endpoint.serve("probe", "127.0.0.1", 0)
        metrics.CONSUMED.labels("probe", "t").inc(3)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        assert 'fluxforge_consumed_total{role="probe",topic="t"} 3.0' in text
        assert 'fluxforge_build_info{service="probe"' in text

    def test_one_series_has_a_symbol_and_that_is_capped(self) -> None:
        collectors = [one for name, one in vars(metrics).items() if name.isupper() and hasattr(one, "_labelnames")]
        assert len(collectors) > 30
        assert [one for one in collectors if set(one._labelnames) & {"symbol", "key"}] == [metrics.HEARD]


@pytest.mark.usefixtures("root_logger")
def test_default_settings_need_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[Settings] = []
    roles = {"only": Role(lambda _settings: [], lambda settings, _stop: seen.append(settings))}
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert service.main("probe", roles, ["--metrics-port", "off"]) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert seen[0].metrics.port is None
