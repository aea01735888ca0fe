"""One thing that was looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from fluxforge.errors import FluxForgeError


@dataclass(frozen=True)
class Line:
    """`told` is what was found, `advice` what to do where that is not `ok`."""

    name: str
    ok: bool
    told: str
    advice: str = ""


def tried(name: str, look: Callable[[], Iterable[Line]]) -> Iterator[Line]:
    """The lines of a look; one more where it fails itself."""
    try:
        yield from look()
    except (FluxForgeError, OSError) as error:
        hint = error.hint if isinstance(error, FluxForgeError) else ""
        message = str(error).removesuffix(f" ({hint})")
        yield Line(name, False, message, hint or "nothing can be said before that is mended")


def age(seconds: float) -> str:
    """A time span as people read it."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.1f} s"
