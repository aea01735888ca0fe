"""An exchange on loopback: real wire protocols, played from recorded or synthetic markets."""

from simulator.binance.venue import Binance
from simulator.coinbase.venue import Coinbase
from simulator.faults import Fault
from simulator.market import Market
from simulator.okx.venue import Okx
from simulator.pump import Start
from simulator.recorded import RecordedMarket
from simulator.server import Simulator
from simulator.synthetic import SyntheticMarket
from simulator.venue import Venue

__all__ = [
    "Binance",
    "Coinbase",
    "Fault",
    "Market",
    "Okx",
    "RecordedMarket",
    "Simulator",
    "Start",
    "SyntheticMarket",
    "Venue",
]
