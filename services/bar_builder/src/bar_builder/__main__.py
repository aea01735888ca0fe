"""`python -m bar_builder [--role builder|lake]`."""

from __future__ import annotations

from fluxforge import service
from fluxforge.service import Role

ROLES = {
    "builder": Role.of("bar_builder.builder", "raw topic to bars", group=True),
    "lake": Role.of("bar_builder.lake", "bars rows to the lake"),
}

if __name__ == "__main__":
    raise SystemExit(service.main("bar_builder", ROLES))
