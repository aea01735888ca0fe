"""Which products are listed: a market's instruments in US dollars, and the USDC names of the same books."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from simulator.market import Instrument


def product_id(instrument: Instrument) -> str:
    """`BTC-USD`; a market quoted in USDT is listed in dollars."""
    return f"{instrument.base}-{'USD' if instrument.quote == 'USDT' else instrument.quote}"


class Products:
    """Product ids, their USDC aliases, and the market symbols behind them.

    `-USDC` products are the books of the `-USD` ones: whoever subscribes to one is answered in the other's name.
    """

    def __init__(self, symbols: Mapping[str, str]) -> None:
        self._symbols = dict(symbols)

    @property
    def names(self) -> Iterable[str]:
        """Every id, aliases behind what they stand for."""
        for name in self._symbols:
            yield name
            yield from self.aliases(name)[1]

    def canonical(self, name: str) -> str:
        """The id under which its data comes."""
        return name.removesuffix("C") if name.endswith("-USDC") else name

    def symbol(self, name: str) -> str | None:
        """The market's symbol; None for no product."""
        return self._symbols.get(self.canonical(name))

    def aliases(self, name: str) -> tuple[str, list[str]]:
        """What it stands for, and what stands for it."""
        if name.endswith("-USDC"):
            return self.canonical(name), []
        return "", [f"{name}C"] if name.endswith("-USD") else []
