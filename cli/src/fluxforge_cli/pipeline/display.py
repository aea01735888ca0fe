"""Where pictures go: a live terminal view, plain lines, or nowhere."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from fluxforge_cli.pipeline import lines, view
from fluxforge_cli.pipeline.picture import Picture

LINE_EVERY_S = 5.0


class Display(Protocol):
    """Shows pictures while it is open; one each `every_s` is enough."""

    every_s: float

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, picture: Picture) -> None: ...

    def waiting(self, text: str, seconds: float) -> None:
        """Something that is not the pipeline takes its time."""

    def say(self, text: str) -> None:
        """A line that stays."""


def choose(console: Console, *, plain: bool) -> Display:
    """The live view where the terminal can move its cursor, plain lines elsewhere."""
    able = console.is_terminal and not console.is_dumb_terminal and "CI" not in os.environ
    return LiveView(console) if able and not plain else PlainLines(console)


class LiveView:
    """Redraws in place."""

    every_s = 0.25

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, picture: Picture) -> None:
        width, height = self._console.size
        self._live.update(view.render(picture, width, height), refresh=True)

    def waiting(self, text: str, seconds: float) -> None:
        self._live.update(Text(f"{text} … {seconds:.0f} s"), refresh=True)

    def say(self, text: str) -> None:
        self._live.console.print(text, highlight=False, markup=False)


class PlainLines:
    """One line each five seconds and at each change of phase."""

    every_s = 1.0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase = ""
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, picture: Picture) -> None:
        if picture.phase != self._phase or picture.elapsed >= self._next:
            self._phase = picture.phase
            self._next = picture.elapsed + LINE_EVERY_S
            self.say(lines.line(picture))

    def waiting(self, text: str, seconds: float) -> None:
        if text != self._phase or seconds >= self._next:
            self._phase, self._next = text, seconds + LINE_EVERY_S
            self.say(f"{text} … {seconds:.0f} s")

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)
