"""The unit for systemd, and the page about small machines."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.test_docs_hold import parse
from fluxforge.settings import PROFILES, Settings
from fluxforge_cli.pipeline import run

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy/systemd/fluxforge.service"
PAGE = (ROOT / "docs/PI.md").read_text()


def setting(name: str) -> str:
    [value] = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    return str(value)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that is on this machine: systemd looks for it."""
    there = tmp_path / UNIT.name
    there.write_text(UNIT.read_text().replace(shlex.split(setting("ExecStart"))[0], sys.executable))
    return there


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("SYSTEMD UNIT NOT TESTED: systemd-analyze is not there")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def test_systemd_knows_every_line_of_it(unit: Path) -> None:
    done = analyze("verify", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


def test_little_is_exposed(unit: Path) -> None:
    done = analyze("security", "--offline=true", "--threshold=20", "--no-pager", str(unit))
    assert done.returncode == 0, done.stdout


def test_it_starts_a_command_that_there_is() -> None:
    program, *arguments = shlex.split(setting("ExecStart"))
    assert program == "/opt/fluxforge/.venv/bin/fluxforge"
    assert arguments[:3] == ["up", "--profile", "pi"]
    parse(arguments)


def test_it_leaves_the_supervisor_time_to_end_its_children_in_order() -> None:
    assert setting("KillMode") == "mixed"
    assert int(setting("TimeoutStopSec")) >= 2 * run.DRAIN_S + 3 * run.STOP_S


def test_logs_are_rotated_where_the_supervisor_writes_them() -> None:
    folder = Path(setting("WorkingDirectory")) / Settings().storage.output.path / "logs"
    assert f"{folder}/*.log {{" in (ROOT / "deploy/systemd/fluxforge.logrotate").read_text()
    assert setting("WorkingDirectory") == f"/var/lib/{setting('StateDirectory')}"


def test_the_page_lists_the_profile() -> None:
    listed = dict(re.findall(r"^\| `(\S+)` \| (\S+) \| \S", PAGE, re.MULTILINE))
    assert listed == {
        f"{section}.{key}": str(value) for section, keys in PROFILES["pi"].items() for key, value in keys.items()
    }


def test_the_page_installs_what_is_there() -> None:
    [block] = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    files = {word for word in block.split() if word.startswith("deploy/")}
    assert files == {str(path.relative_to(ROOT)) for path in (ROOT / "deploy/systemd").iterdir()}
    assert f"install -D -m 640 -g {setting('Group')} config.yaml /etc/fluxforge/config.yaml" in block
