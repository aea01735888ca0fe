"""What benchmarks are tried on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import history, topic


@pytest.fixture
def synthetic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A small market, the same everywhere."""
    monkeypatch.setattr(history, "load", lambda: history.synthetic(updates=60, levels=30))
    topic.template.cache_clear()
    yield
    topic.template.cache_clear()
