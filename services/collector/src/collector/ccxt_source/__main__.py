"""`python -m collector.ccxt_source`: what every exchange of ccxt Pro can be followed by, as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from collector.ccxt_source.capabilities import capabilities

if __name__ == "__main__":
    json.dump([asdict(each) for each in capabilities()], sys.stdout)
