"""The stack's files, without Docker: what must hold for every service; and `docker compose config`, where docker is."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from fluxforge.settings import load

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
STACK = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
PI = yaml.safe_load((ROOT / "docker-compose.pi.yml").read_text())["services"]
CONFIG = ROOT / "deploy" / "config.yaml"
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
PROFILES = sorted({profile for service in SERVICES.values() for profile in service.get("profiles", ())})
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("fluxforge/")]
ENDS = ("topic-init", "s3-init", "cli")
"""What ends by itself, and is not watched or started again."""
EACH = pytest.mark.parametrize("name", SERVICES)
SETTING = re.compile(r"^ +(?:- --|(?:KAFKA|REDPANDA|SERDE|ANALYTICS|GF)_\w+: )")


@EACH
def test_a_container_is_shut_in(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    uid, _, gid = service["user"].partition(":")
    assert int(uid) > 0 and gid.isdigit()
    assert "privileged" not in service and "network_mode" not in service
    assert not any("docker.sock" in volume for volume in service.get("volumes", ()))


@EACH
def test_what_a_container_takes_is_bounded(name: str) -> None:
    service = SERVICES[name]
    assert 0 < float(service["cpus"]) <= 1
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["pids_limit"] > 0
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert all("size=" in mount for mount in service["tmpfs"])


@EACH
def test_a_container_is_watched_and_started_again(name: str) -> None:
    service = SERVICES[name]
    if name in ENDS:
        assert service["restart"] == "no"
        assert service["healthcheck"] == {"disable": True}
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"
        assert {"interval", "timeout", "retries"} <= set(service["healthcheck"])


@EACH
def test_a_container_waits_for_what_it_needs(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how["condition"] == ("service_completed_successfully" if other in ENDS else "service_healthy")
        assert set(SERVICES[other].get("profiles", ())) <= set(SERVICES[name].get("profiles", ()))


@EACH
def test_an_image_is_pinned(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].rpartition(":")
    assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag)


@EACH
def test_a_port_is_published_on_this_machine_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:")


@EACH
def test_a_secret_comes_from_outside(name: str) -> None:
    for key, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"(_KEY|_KEY_ID|SECRET\w*|PASSWORD|TOKEN)$", key):
            assert re.fullmatch(r"\$\{\w+:-\}", value), key


def test_base_images_are_pinned_alike_everywhere() -> None:
    for name in ("PYTHON_IMAGE", "UV_IMAGE"):
        (pinned,) = re.findall(rf"^ARG {name}=(\S+:\S+)$", DOCKERFILE, re.MULTILINE)
        assert f"${{{name}:-{pinned}}}" in TEXT
        assert re.search(r":\d+\.\d+\.\d+", pinned)


def test_every_flag_and_setting_of_others_has_its_reason() -> None:
    """In a comment behind it or above it, which may stand for two flags that go together, or five settings."""
    left, found = 0, 0
    for line in TEXT.splitlines():
        if line.lstrip().startswith("#"):
            left = 5
        elif SETTING.match(line):
            found += 1
            left -= 1
            assert " # " in line or left >= (3 if "- --" in line else 0), line
            left = 0 if " # " in line else left
        else:
            left = 0
    assert found > 20


@pytest.mark.parametrize("name", OURS)
def test_what_a_service_is_given_are_settings(name: str, tmp_path: Path) -> None:
    given = {key: value for key, value in SERVICES[name]["environment"].items() if value is not None}
    given |= PI.get(name, {}).get("environment", {})
    given.pop("FLUXFORGE_CONFIG", None)
    settings = load(
        ROOT / "config.example.yaml", environ={k: v for k, v in given.items() if k.startswith("FLUXFORGE_")}
    )
    sources = [*settings.native, *settings.ccxt.exchanges]
    assert settings.processor.member == "1" or settings.processor.member.startswith("worker-")
    if name.startswith("collector-") and name.removeprefix("collector-") not in (
        "coinbase", "binanceus", "binanceusdm",  # which the configuration has none of
    ):  # fmt: skip
        assert len(sources) == 1
    if name != "simulator" and name != "s3-init":
        assert settings.broker.url == "kafka://redpanda:9092"
        assert settings.metrics.host == "0.0.0.0"
        assert str(settings.storage.input.path) == str(settings.storage.output.path) == "/data"


def test_a_small_machine_has_its_settings_in_every_service() -> None:
    with_settings = {name for name in OURS if SERVICES[name]["environment"].get("FLUXFORGE_CONFIG")}
    assert set(PI) == with_settings - {"cli", "s3-copy"}
    for name, service in PI.items():
        given = {**SERVICES[name]["environment"], **service["environment"]}
        settings = load(CONFIG, environ={key: value for key, value in given.items() if value is not None})
        assert (settings.profile, settings.processor.commit_interval) == ("pi", 5)


def test_images_are_built_from_programs_of_the_workspace() -> None:
    members = sorted(path.parent for path in [*ROOT.glob("*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")])
    for member in members:
        assert f"COPY {member.relative_to(ROOT)}/pyproject.toml {member.relative_to(ROOT)}/\n" in DOCKERFILE
    programs = {member.name.replace("_", "-") for member in members} - {"shared"}
    assert {SERVICES[name]["build"]["args"]["SERVICE"] for name in OURS} == programs
    assert all(
        SERVICES[name]["image"].startswith(f"fluxforge/{SERVICES[name]['build']['args']['SERVICE']}:") for name in OURS
    )


def test_an_image_is_sent_sources_and_nothing_else() -> None:
    first, *kept = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert first == "*"
    assert {line for line in kept if not line.startswith("!")} == {"**/__pycache__"}
    assert all(
        line.endswith(("/src", "/pyproject.toml", "!pyproject.toml", "!uv.lock")) for line in kept if line[0] == "!"
    )


def test_everything_is_documented() -> None:
    page = (ROOT / "docs" / "DOCKER.md").read_text()
    assert [name for name in (*SERVICES, *PROFILES) if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("profile", "files"),
    [
        *((profile, ()) for profile in PROFILES),
        ("*", ("docker-compose.pi.yml",)),
        ("*", ("tests/compose/stand-in.yml",)),
    ],
)
def test_compose_takes_it(profile: str, files: tuple[str, ...]) -> None:
    if shutil.which("docker") is None:
        pytest.skip("COMPOSE FILES NOT READ BY DOCKER: there is no docker command")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("COMPOSE FILES NOT READ BY DOCKER: the docker command has no compose")
    named = [part for file in ("docker-compose.yml", *files) for part in ("-f", file)]
    done = subprocess.run(
        ["docker", "compose", *named, "--profile", profile, "config", "--quiet"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
