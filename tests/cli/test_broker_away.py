"""The supervisor of a pipeline on Kafka, while the broker is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from fluxforge.clock import SystemClock
from fluxforge.log.kafka import admin
from fluxforge.service import Stop
from fluxforge.settings import load
from fluxforge_cli.pipeline.child import Child
from fluxforge_cli.pipeline.display import PlainLines
from fluxforge_cli.pipeline.plan import Program
from fluxforge_cli.pipeline.run import Run
from kafka_broker import ApacheKafka, Broker

pytestmark = pytest.mark.kafka


@pytest.fixture
def broker(kafka_broker: Broker) -> Iterator[ApacheKafka]:
    """One of the test's own, to be killed."""
    if not isinstance(kafka_broker, ApacheKafka):
        pytest.skip("A BROKER'S ABSENCE NOT TESTED: needs the bundled Apache Kafka")
    running = ApacheKafka()
    yield running
    running.stop()


def test_it_waits_and_goes_on(
    broker: ApacheKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(admin, "ANSWER_SECONDS", 1.0)
    settings = load(environ={"FLUXFORGE_BROKER__URL": f"kafka://{broker.bootstrap}"})
    with PlainLines(Console(soft_wrap=True)) as display:
        run = Run("test", settings, tmp_path, {}, display, seconds=None, from_end=False)
        clock = SystemClock()
        reader = Program("reader", ("none",), reads=(run.topics.raw,))
        run.adopt(Child(reader.name, reader.command, tmp_path / "log", clock), reader)
        run.step("running")
        broker.kill()
        _until(lambda: "the log does not answer" in capsys.readouterr().out, run)
        broker.start()
        _until(lambda: not run._away, run)
        run.close()


def _until(done: Callable[[], bool], run: Run) -> None:
    stop = Stop()
    for _ in range(600):
        run.step("running")
        if done():
            return
        stop.wait(0.1)
    pytest.fail("never")
