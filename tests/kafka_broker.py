"""A real broker for tests: yours, Redpanda in Docker, or Apache Kafka on the Java at hand.

In this order: `FLUXFORGE_BOOTSTRAP` if set; Redpanda by testcontainers where a Docker daemon answers; Apache Kafka
from Maven Central, unpacked once into `.cache/kafka`, where Java and Maven are; else the tests are skipped, saying so.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

KAFKA_VERSION = "4.4.0"
READY_SECONDS = 90
PORTS = range(19100, 19200)
CACHE = Path(__file__).resolve().parents[1] / ".cache" / "kafka"

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>fluxforge</groupId><artifactId>test-broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=BROKER://127.0.0.1:{port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={directory}/logs
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.initial.task.delay.ms=500
log.retention.check.interval.ms=500
log.cleaner.backoff.ms=200
log.cleaner.dedupe.buffer.size=4194304
log.segment.delete.delay.ms=500
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
"""


class Broker(Protocol):
    """A running broker."""

    bootstrap: str

    def stop(self) -> None: ...


class GivenBroker:
    """Somebody else's broker."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap.removeprefix("kafka://")

    def stop(self) -> None:
        """It stays."""


class RedpandaBroker:
    """Redpanda in a container."""

    def __init__(self) -> None:
        from testcontainers.community.kafka import RedpandaContainer

        self._container = RedpandaContainer()
        self._container.start()
        self.bootstrap = self._container.get_bootstrap_server()

    def stop(self) -> None:
        self._container.stop()


class ApacheKafka:
    """One node of Apache Kafka, broker and controller in one process, with its files in a folder of its own."""

    def __init__(self) -> None:
        self._libs, self._cluster = libraries(), cluster_id()
        self.directory = Path(tempfile.mkdtemp(prefix="fluxforge-kafka-"))
        port, controller = free_ports(2)
        self.bootstrap = f"127.0.0.1:{port}"
        self._properties = self.directory / "server.properties"
        self._properties.write_text(
            PROPERTIES.format(port=port, controller=controller, directory=self.directory), encoding="utf-8"
        )
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._format()
            self.start()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it takes connections and knows its own topics."""
        self._process = self._java("kafka.Kafka", str(self._properties), heap="-Xmx512m")
        self._await_ready()

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop cleanly and remove the files."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        dump = self.directory / "classes.jsa"
        if dump.exists() and not _archive().exists():
            shutil.move(dump, _archive())
        shutil.rmtree(self.directory, ignore_errors=True)

    def _format(self) -> None:
        done = self._java(
            *("kafka.tools.StorageTool", "format"),
            f"--cluster-id={self._cluster}",  # an id may begin with a minus
            f"--config={self._properties}",
            heap="-Xmx128m",
        )
        if done.wait(READY_SECONDS):
            raise RuntimeError(f"formatting Kafka's storage failed:\n{self._log()}")

    def _java(self, *command: str, heap: str) -> subprocess.Popen[bytes]:
        classes = f"-XX:SharedArchiveFile={_archive()}"
        if not _archive().exists():
            classes = f"-XX:ArchiveClassesAtExit={self.directory / 'classes.jsa'}"
        archive = [classes] if command[0] == "kafka.Kafka" or _archive().exists() else []
        with (self.directory / "broker.log").open("ab") as log:
            return subprocess.Popen(
                [
                    *("java", "-Xms64m", heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *archive),
                    *(
                        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                        "-Dorg.slf4j.simpleLogger.showDateTime=true",
                        "-cp",
                        f"{self._libs}/*",
                        *command,
                    ),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                preexec_fn=die_with_parent,
            )

    def _await_ready(self) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        assert self._process is not None
        deadline = time.monotonic() + READY_SECONDS
        host, _, port = self.bootstrap.partition(":")
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"Kafka ended with code {self._process.returncode}:\n{self._log()}")
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    try:
                        if AdminClient({"bootstrap.servers": self.bootstrap}).list_topics(timeout=5).brokers:
                            return
                    except KafkaException:
                        pass
            time.sleep(0.05)
        raise RuntimeError(f"Kafka was not ready within {READY_SECONDS} s:\n{self._log()}")

    def _log(self) -> str:
        log = self.directory / "broker.log"
        return log.read_text(encoding="utf-8", errors="replace")[-4000:] if log.exists() else ""


def start_broker() -> Broker:
    """The first broker that can be had; skips the test where none can."""
    given = os.environ.get("FLUXFORGE_BOOTSTRAP")
    if given:
        return GivenBroker(given)
    why_not_docker = "no Docker daemon answers"
    if _docker_answers():
        try:
            return RedpandaBroker()
        except Exception as error:
            why_not_docker = f"Redpanda's container did not start ({error!r:.200})"
            warnings.warn(f"{why_not_docker}; falling back to Apache Kafka on Java", RuntimeWarning, stacklevel=2)
    if shutil.which("java") and (shutil.which("mvn") or libraries_are_there()):
        return ApacheKafka()
    pytest.skip(f"KAFKA NOT TESTED: FLUXFORGE_BOOTSTRAP is not set, {why_not_docker}, and Java and Maven are not there")


def _docker_answers() -> bool:
    if not shutil.which("docker"):
        return False
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _archive() -> Path:
    """Kafka's classes, loaded and checked once: a start takes a third of the time."""
    return CACHE / f"classes-{KAFKA_VERSION}.jsa"


def libraries_are_there() -> bool:
    return (CACHE / f"libs-{KAFKA_VERSION}").is_dir()


def libraries() -> Path:
    """Kafka's jars, from Maven at the first call."""
    libs = CACHE / f"libs-{KAFKA_VERSION}"
    with locked(CACHE):
        if not libs.is_dir():
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                (Path(scratch) / "pom.xml").write_text(POM, encoding="utf-8")
                subprocess.run(
                    [
                        *("mvn", "-B", "-q", "dependency:copy-dependencies"),
                        *("-DoutputDirectory=libs", "-DincludeScope=runtime"),
                    ],
                    cwd=scratch,
                    check=True,
                    timeout=600,
                )
                (Path(scratch) / "libs").rename(libs)
    return libs


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One test run at a time fills a cache."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cluster_id() -> str:
    """A new one."""
    import base64

    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nothing listens on."""
    free: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):  # test runs side by side must not race for the same one
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        free.append(port)
        if len(free) == count:
            return free
    raise RuntimeError(f"no {count} free ports in {PORTS}")


def die_with_parent() -> None:
    """A broker must not outlive the test run that started it, however that ends."""
    if os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
