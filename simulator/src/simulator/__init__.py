"""An exchange on loopback: the real wire protocol of Binance spot, played from recorded or synthetic markets."""

from simulator.faults import Fault
from simulator.market import Market
from simulator.pump import Start
from simulator.recorded import RecordedMarket
from simulator.server import Simulator
from simulator.synthetic import SyntheticMarket

__all__ = ["Fault", "Market", "RecordedMarket", "Simulator", "Start", "SyntheticMarket"]
