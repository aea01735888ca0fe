"""Fixtures that any test may ask for."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from fluxforge.log import Log, open_log
from fluxforge.topics import Topics
from kafka_broker import Broker, start_broker
from s3_server import S3Server

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("fluxforge", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("fluxforge")


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of recorded markets."""
    folder = Path(os.environ.get("FLUXFORGE_RECORDINGS") or ROOT.parent / "shared" / "data").resolve()
    if not (folder / "binance_spot").is_dir():
        pytest.skip(f"RECORDINGS NOT TESTED: {folder} has none; name their folder in FLUXFORGE_RECORDINGS")
    return folder


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[Broker]:
    """The one broker of the session."""
    broker = start_broker()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def kafka_url(kafka_broker: Broker) -> str:
    """`kafka://host:port` of a real broker."""
    return f"kafka://{kafka_broker.bootstrap}"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """The one S3 server of the session."""
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def new_root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes an empty root of kind `folder` or `bucket`, as `--data-dir` takes it.

    The first bucket sets the AWS_* variables, which processes begun by the test inherit.
    """

    def make(kind: str) -> str:
        if kind == "folder":
            return str(tmp_path / f"root-{uuid.uuid4().hex[:8]}")
        assert kind == "bucket", kind
        server: S3Server = request.getfixturevalue("s3_server")
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        return f"s3://{server.bucket()}/some/prefix"

    return make


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, new_root: Callable[[str], str]) -> str:
    """An empty root of each kind in turn."""
    return new_root(request.param)


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of each backend in turn: a new file, or the session's broker."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'log.db'}"
    url: str = request.getfixturevalue("kafka_url")
    return url


@pytest.fixture
def log(log_url: str) -> Iterator[Log]:
    """Each backend in turn."""
    log = open_log(log_url)
    yield log
    log.close()


@pytest.fixture
def topics() -> Topics:
    """Topic names that no other test has."""
    return Topics(f"t{uuid.uuid4().hex[:12]}")
