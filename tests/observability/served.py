"""What this process would serve now."""

from __future__ import annotations

from prometheus_client import REGISTRY


def value(name: str, **labels: str) -> float | None:
    """Of a sample; None where there is none."""
    return REGISTRY.get_sample_value(name, labels)


def series(name: str) -> list[dict[str, str]]:
    """The labels of every sample of a name."""
    return [
        sample.labels for family in REGISTRY.collect() for sample in family.samples if sample.name == name
    ]  # fmt: skip
