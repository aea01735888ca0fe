"""The documents say what the code does."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from typer.core import TyperCommand, TyperGroup

from fluxforge import catalogue
from fluxforge.kernels.config import FeatureConfig
from fluxforge.settings import Settings, known_keys, load, load_with_origins
from fluxforge_cli.programs import PROGRAMS
from fluxforge_cli.reference import program_parser, reference, root

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(page.read_text()) if kind == language]


def commands() -> list[tuple[str, str]]:
    lines = [(page.name, line.strip()) for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    return [(page, line) for page, line in lines if line and not line.startswith("#")]


def test_there_is_something_to_hold() -> None:
    assert len(PAGES) >= 5
    assert len(commands()) >= 15


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_shown_exists_with_its_options(page: str, line: str) -> None:
    name, *arguments = shlex.split(line)
    if name == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert arguments[0] in targets
        for argument in arguments[1:]:
            variable, _, value = argument.partition("=")
            assert variable in {"ARGS", "NAME"}
            if variable == "NAME":
                assert (ROOT / "benchmarks" / f"{value}.py").exists()
            if arguments[0] == "demo":
                parse(["demo", *shlex.split(value)])
    elif name.endswith("fluxforge"):
        parse(arguments)
    elif name == "docker":
        check_compose(arguments)
    elif name.startswith(".ci/"):
        assert (ROOT / name).exists()
    elif name == "cp":
        assert (ROOT / arguments[0]).exists()
    else:
        pytest.fail(f"{page}: nothing here knows how to check {line!r}")


def check_compose(arguments: list[str]) -> None:
    """Files, profiles and services that are named exist; how docker takes them is not asked, for it may not be here."""
    assert arguments[0] == "compose"
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
    for option, value in pairwise(arguments):
        if option == "-f":
            assert (ROOT / value).exists()
        elif option == "--profile":
            assert value in profiles
        elif option == "--scale":
            assert value.partition("=")[0] in services
    if "run" in arguments:
        service, *rest = [argument for argument in arguments[arguments.index("run") + 1 :] if argument != "--rm"]
        assert service == "cli" and service in services
        parse(rest)
    else:
        assert {"up", "down"} & set(arguments)


def parse(arguments: list[str]) -> None:
    if arguments[0] in PROGRAMS:
        program_parser(arguments[0]).parse_args(arguments[1:])
        return
    command, rest = root(), arguments
    while isinstance(command, TyperGroup) and rest[0] in command.commands:
        below = command.commands[rest[0]]
        assert isinstance(below, TyperGroup | TyperCommand)
        command, rest = below, rest[1:]  # type: ignore[assignment]
    command.make_context(arguments[0], list(rest))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_a_sentence_exists_with_its_options(page: Path) -> None:
    for line in re.findall(r"`(?:\.venv/bin/)?fluxforge\s([^`]+)`", BLOCK.sub("", page.read_text())):
        words = line.replace("…", "").split()
        if words[0] in PROGRAMS:
            known = set(program_parser(words[0])._option_string_actions)
        else:
            command: object = root()
            for word in words:
                if not isinstance(command, TyperGroup) or word.startswith("-"):
                    break
                assert word in command.commands, (line, word)
                command = command.commands[word]
            assert isinstance(command, TyperGroup | TyperCommand)
            known = {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known | {"--help"}, line


def test_the_page_of_commands_is_the_commands() -> None:
    assert (ROOT / "docs/CLI.md").read_text() == reference(), "run python -m fluxforge_cli.reference > docs/CLI.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-")
        for h in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("#"):
            assert target[1:] in headings
        elif not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_index_lists_every_page() -> None:
    listed = re.findall(r"^\| \[(\w+\.md)\]\(\1\) \|", (ROOT / "docs" / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in ROOT.glob("docs/*.md") if page.name != "README.md")
    assert "(docs/README.md)" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "config.example.yaml", ROOT / "Makefile"], ids=lambda page: page.name)
def test_no_page_names_the_machine_it_was_written_on(page: Path) -> None:
    assert not re.search(r"(^|[\s'\"`(])/(work|root|home)/", page.read_text())


class TestExampleConfiguration:
    EXAMPLE = ROOT / "config.example.yaml"

    def test_is_valid_and_shows_the_defaults(self) -> None:
        settings = load(self.EXAMPLE, environ={})
        assert settings.binance is not None and settings.ccxt.exchanges
        assert settings.model_copy(update={"binance": None, "ccxt": Settings().ccxt}) == Settings()

    def test_shows_every_setting(self) -> None:
        shown = {".".join(path) for path in load_with_origins(self.EXAMPLE, environ={}).origins}
        commented = set(re.findall(r"^# (\w+):", self.EXAMPLE.read_text(), re.MULTILINE))
        missing = [
            key
            for key in known_keys()
            if key.replace("exchanges.*", "exchanges.kraken") not in shown and key.split(".")[0] not in commented
        ]
        assert missing == []


class TestReadme:
    def test_its_number_of_features_is_right(self) -> None:
        assert f"{len(catalogue.columns(FeatureConfig()))} columns a row" in (ROOT / "README.md").read_text()

    def test_its_topics_are_the_topics(self) -> None:
        text = (ROOT / "README.md").read_text()
        assert [spec.name for spec in Settings().topic_specs() if f"`{spec.name}`" not in text] == []
