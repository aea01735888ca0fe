"""What every service's `__main__` is made of: options, settings, logging, metrics, signals, errors.

    if __name__ == "__main__":
        raise SystemExit(service.main("bronze_sink", {"sink": Role(check, serve, "raw topic to Bronze")}))

`serve(settings, stop)` runs until `stop` is set by SIGTERM or SIGINT, finishes what it must (flush, commit, leave the
group) and returns. `check(settings)` tries what the role needs and yields one line for each thing that is well.

Exit codes: 0 done, 1 failed, 2 wrong configuration or options, 130 a second signal cut the shutdown short.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from fluxforge import endpoint, logs, workers
from fluxforge.errors import ConfigError, FluxForgeError
from fluxforge.log import Log
from fluxforge.log import open_log as open_url
from fluxforge.settings import Settings, load_with_origins

FAILED, MISCONFIGURED, INTERRUPTED = 1, 2, 130

_log = logging.getLogger(__name__)


class Stop:
    """Set once, by a signal; threads wait for it, and so can coroutines."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._then: list[Callable[[], object]] = []

    def set(self) -> None:
        self._event.set()
        for call in self._then:
            call()

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block for at most `timeout` s; true once set."""
        return self._event.wait(timeout)

    async def wait_async(self) -> None:
        """Wait on the running event loop."""
        loop, reached = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(reached.set)

        self._then.append(wake)
        try:
            if not self.is_set():
                await reached.wait()
        finally:
            self._then.remove(wake)


@dataclass(frozen=True)
class Role:
    """One way to run a service.

    check  tries what the role needs, yields a line for each thing that is well, raises FluxForgeError
    serve  runs until `stop` is set
    help   one line for --help
    group  whether several workers can share the work
    """

    check: Callable[[Settings], Iterable[str]]
    serve: Callable[[Settings, Stop], None]
    help: str = ""
    group: bool = False

    @classmethod
    def of(cls, module: str, help: str, *, group: bool = False) -> Role:
        """The `role` of a module, imported once it is called for: no role bears the libraries of another."""

        def found() -> Role:
            role: Role = import_module(module).role
            return role

        return cls(lambda settings: found().check(settings), lambda s, stop: found().serve(s, stop), help, group)


def main(name: str, roles: Mapping[str, Role], argv: Sequence[str] | None = None) -> int:
    """Run a service by its command line and return the exit code. The first role is the default one."""
    options = parser(name, roles).parse_args(argv)
    level = options.log_level or "INFO"
    try:
        loaded = load_with_origins(options.config, overrides=_overrides(options))
        settings = loaded.settings
        level = settings.log_level
        logs.setup(level, levels=settings.log_levels, fmt=settings.log_format, secrets=settings.secrets())
        role = roles[options.role]
        if options.check:
            return _check(name, options.role, role, settings, loaded.file)
        if role.group and settings.processor.workers > 1:
            return _supervise(name, settings, sys.argv[1:] if argv is None else argv)
        return _serve(name, options.role, role, settings)
    except FluxForgeError as error:
        return report(error, debug=level == "DEBUG")
    except KeyboardInterrupt:
        return INTERRUPTED


def parser(name: str, roles: Mapping[str, Role]) -> argparse.ArgumentParser:
    """The options every service takes."""
    first = next(iter(roles))
    of_roles = "; ".join(f"{key}: {role.help}" for key, role in roles.items())
    made = argparse.ArgumentParser(prog=f"python -m {name}", description=f"A service of FluxForge. Roles: {of_roles}.")
    made.add_argument("--config", type=Path, help="configuration file (default: config.yaml where it is there)")
    made.add_argument("--role", choices=list(roles), default=first, help=f"what to run (default: {first})")
    made.add_argument("--check", action="store_true", help="try what the role needs, say so, and exit")
    made.add_argument("--metrics-port", type=_port, metavar="PORT|off", help="instead of metrics.port; 0 is a free one")
    if any(role.group for role in roles.values()):
        made.add_argument("--workers", type=int, metavar="N", help="processes that share the work (processor.workers)")
    made.add_argument("--log-level", choices=["DEBUG", "INFO", "WARNING", "ERROR"], help="instead of log_level")
    return made


def open_log(settings: Settings) -> Log:
    """The configured log. Raises LogUnavailable naming it."""
    broker = settings.broker
    return open_url(broker.url, broker.librdkafka(), linger=broker.linger_ms / 1000)


def report(error: FluxForgeError, *, debug: bool = False) -> int:
    """Print an error of our tree once, with the way out, and return its exit code."""
    message = str(error)
    hint = error.hint
    if hint:
        message = message.removesuffix(f" ({hint})")
    print(f"error: {message}", file=sys.stderr)  # noqa: T201  the one line a person reads
    if hint:
        print(f"hint:  {hint}", file=sys.stderr)  # noqa: T201
    if debug:
        _log.debug("raised here", exc_info=error)
    return MISCONFIGURED if isinstance(error, ConfigError) else FAILED


def _check(name: str, role_name: str, role: Role, settings: Settings, file: Path | None) -> int:
    _say(f"configuration: {file or 'defaults'}")
    for line in role.check(settings):
        _say(line)
    print(f"{name} ({role_name}) can run")  # noqa: T201
    return 0


def _say(line: str) -> None:
    print(f"ok  {line}", flush=True)  # noqa: T201


def _serve(name: str, role_name: str, role: Role, settings: Settings) -> int:
    if settings.metrics.port is not None:
        port = endpoint.serve(name, settings.metrics.host, settings.metrics.port)
        _log.info("metrics on http://%s:%d/metrics", settings.metrics.host, port)
    stop = Stop()
    on_signals(stop)
    _log.info("%s (%s) starts", name, role_name)
    role.serve(settings, stop)
    _log.info("%s (%s) stopped", name, role_name)
    return 0


def _supervise(name: str, settings: Settings, argv: Sequence[str]) -> int:
    """N processes of this program; each serves metrics on a port of its own, from metrics.port on."""
    processor, port = settings.processor, settings.metrics.port
    stop = Stop()
    on_signals(stop)
    made = []
    for k in range(1, processor.workers + 1):
        environ = {"FLUXFORGE_PROCESSOR__MEMBER": f"{processor.member}-{k}"}
        own = "off" if port is None else str(port + k - 1 if port else 0)
        command = (name, *argv, "--workers", "1", "--metrics-port", own)
        made.append(workers.Worker(f"{name} {processor.member}-{k}", command, environ))
    workers.supervise(made, stop)
    return 0


def on_signals(stop: Stop) -> None:
    """SIGTERM and SIGINT set `stop`; a second one ends the process at once."""

    received: list[int] = []

    def handle(number: int, _frame: object) -> None:
        if received:
            os._exit(INTERRUPTED)
        received.append(number)
        # The interrupted thread may hold the event's lock, so another one sets it.
        threading.Thread(target=stop.set, name="stop", daemon=True).start()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if options.metrics_port is not None:
        given["metrics.port"] = None if options.metrics_port == "off" else options.metrics_port
    if getattr(options, "workers", None) is not None:
        given["processor.workers"] = options.workers
    if options.log_level is not None:
        given["log_level"] = options.log_level
    return given


def _port(text: str) -> int | str:
    if text == "off":
        return text
    if text.isdigit() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port; a number from 0 to 65535, or off")


def spare_the_collector() -> None:
    """Collect garbage seldom: a batch is thousands of objects that live for a moment and make no cycles."""
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


def leave_pandas_out() -> None:
    """Keep pyarrow from loading pandas at the first list it is given: 35 MB and half a second, for nothing here."""
    import pyarrow as pa  # noqa: PLC0415  collectors run without it

    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([0])  # it looks once
    finally:
        sys.meta_path.remove(_NoPandas)


class _NoPandas:
    """A finder of modules to whom pandas is not installed."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)
