"""Texts can be read on what lies behind them: WCAG 2.2 AA, 4.5 : 1 for text and 3 : 1 for lines and cells."""

from __future__ import annotations

import re

import pytest

from fluxforge_cli.dashboard.server import STATIC

CSS = (STATIC / "app.css").read_text()
COLOURS = {
    name: {"light": light, "dark": dark}
    for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", CSS)
}
TEXTS = [
    *((text, ground) for text in ("text", "quiet", "bid", "ask", "mark", "warn") for ground in ("page", "panel")),
    *(("text", "raised"), ("bid", "raised"), ("mark", "raised"), ("on-state", "warn"), ("on-state", "ask")),
]
"""What is written on what."""
CELLS = [("bid", "panel"), ("ask", "panel"), ("warn", "panel"), ("mark", "panel")]


def luminance(colour: str) -> float:
    """Relative, as WCAG defines it for sRGB."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def mixed(colour: str, ground: str, share: float) -> str:
    """So much of a colour over a ground, as color-mix with transparent gives."""
    of = [round(int(colour[k : k + 2], 16) * share + int(ground[k : k + 2], 16) * (1 - share)) for k in (1, 3, 5)]
    return "#" + "".join(f"{part:02x}" for part in of)


def test_the_measure_is_that_of_the_recommendation() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=0.001)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXTS)
def test_a_text_can_be_read(text: str, ground: str, scheme: str) -> None:
    assert contrast(COLOURS[text][scheme], COLOURS[ground][scheme]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("side", ["bid", "ask"])
def test_a_price_can_be_read_over_its_bar(side: str, scheme: str) -> None:
    (share,) = {
        int(found) / 100 for found in re.findall(r"color-mix\(in srgb, var\(--\w+\) (\d+)%, transparent\)", CSS)
    }
    ground = mixed(COLOURS[side][scheme], COLOURS["panel"][scheme], share)
    for text in (side, "text"):
        assert contrast(COLOURS[text][scheme], ground) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("cell", "ground"), CELLS)
def test_a_cell_can_be_seen(cell: str, ground: str, scheme: str) -> None:
    assert contrast(COLOURS[cell][scheme], COLOURS[ground][scheme]) >= 3


def test_every_colour_of_the_page_is_one_of_these() -> None:
    rest = re.sub(r"light-dark\([^)]*\)", "", CSS)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b(?=[;, )])", rest) == []
    assert set(re.findall(r"var\(--([\w-]+)\)", CSS)) - {"mono", "share"} <= COLOURS.keys()
