"""Pages whose programs, commands and settings are tried on small data: each runs, in the page's order."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from fluxforge.settings import load
from fluxforge_cli.main import app
from s3_server import S3Server
from stored_data import make_bronze, make_lake

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PRINTED = {
    "PARQUET.md": [
        "['fluxforge.config_hash', 'fluxforge.schema_version', 'fluxforge.table']",
        "[(datetime.datetime(2022, 1, 9, 0, 0), 0.0)]",
        "72",
        "2022-01-10 23:00:00+00:00",
        "[(80,)]",
    ]
}
RUNS = {"PARQUET.md": 4, "S3.md": 6, "RUNBOOK.md": 6}
"""Page → how many of its commands run here."""
OF_THE_PIPELINE = {"collector", "up", "top", "tail", "dashboard", "demo", "coverage", "health", "config", "topics"}
"""Commands that ask exchanges, follow a log or look at a whole pipeline. That they exist, with their options,
is held by test_docs_hold; each has tests of its own."""


def blocks(page: str, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall((DOCS / page).read_text()) if kind == language]


def commands(page: str) -> list[list[str]]:
    lines = [shlex.split(line) for block in blocks(page, "sh") for line in block.splitlines() if line.strip()]
    return [line[1:] for line in lines if line[0].endswith("fluxforge") and line[1] not in OF_THE_PIPELINE]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for root in ("data", "backup"):
        make_lake(root)
        make_bronze(root)
    return tmp_path


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new one, in the place of the pages' `my-market`."""
    for name, value in s3_server.environ.items():
        monkeypatch.setenv(name, value)
    return s3_server.bucket()


@pytest.mark.parametrize("page", PRINTED)
def test_programs_print(data: Path, page: str) -> None:
    programs = blocks(page, "python")
    assert len(programs) == len(PRINTED[page])
    for program, wanted in zip(programs, PRINTED[page], strict=True):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == wanted, done.stderr


@pytest.mark.parametrize("page", RUNS)
@pytest.mark.usefixtures("data")
def test_commands_succeed(bucket: str, page: str) -> None:
    assert len(commands(page)) == RUNS[page]
    for command in commands(page):
        done = CliRunner().invoke(app, [word.replace("my-market", bucket) for word in command])
        assert done.exit_code == 0, (command, done.output, done.exception)


@pytest.mark.parametrize("page", ["GETTING_STARTED.md", "S3.md", "US_VENUES.md"])
def test_settings_are_settings(tmp_path: Path, page: str) -> None:
    (tmp_path / "run").mkdir()
    for name in ("key", "secret", "coinbase"):
        (tmp_path / "run" / name).write_text(name)
    assert blocks(page, "yaml")
    for number, block in enumerate(blocks(page, "yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block.replace("/run/secrets", str(tmp_path / "run")))
        assert yaml.safe_load(block).keys() <= load(path, environ={}).model_dump().keys()
