"""docs/STORAGE.md: its programs and commands run, one after the other, on a small Bronze and lake."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from typer.testing import CliRunner

from fluxforge.bronze.schema import CHANNELS
from fluxforge.settings import load
from fluxforge.validate import Kind
from fluxforge_cli.main import app
from stored_data import make_bronze, make_lake

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "STORAGE.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PRINTED = ["48", "[('BTC-USDT', 72), ('ETH-USDT', 72)]", "24", "(72, 3)", "[(96,)]"]


def blocks(language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(PAGE) if kind == language]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_lake("data")
    make_bronze("data")
    return tmp_path / "data"


def test_its_programs_print_rows(data: Path) -> None:
    programs = blocks("python")
    assert len(programs) == len(PRINTED)
    for program, wanted in zip(programs, PRINTED, strict=True):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, cwd=data.parent, check=False
        )
        assert done.stdout.strip() == wanted, done.stderr


def test_its_commands_succeed(data: Path) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) >= 14
    for line in lines:
        done = CliRunner().invoke(app, shlex.split(line)[1:])
        assert done.exit_code == 0, (line, done.output, done.exception)


def test_its_settings_are_settings(tmp_path: Path) -> None:
    for name in ("key", "secret"):
        (tmp_path / name).write_text(name)
    for number, block in enumerate(blocks("yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block.replace("/run/secrets", str(tmp_path)))
        assert yaml.safe_load(block).keys() <= load(path, environ={}).model_dump().keys()


def test_it_names_every_channel_and_every_kind_of_problem() -> None:
    assert [name for name in (*CHANNELS, *get_args(Kind)) if f"`{name}`" not in PAGE] == []
