"""Where the feature kernel keeps what in a key's record: header words behind the core."""

from __future__ import annotations

from fluxforge.kernels import layout as at

# Header words of a feature record, behind the core.
BUCKET = at.CORE_WORDS  # bucket of the newest row, counted from 1; 0 before the first
PREV_VELOCITY = at.CORE_WORDS + 1  # float
PREV_BIDS = at.CORE_WORDS + 2  # levels of the previous book kept for OFI
PREV_ASKS = at.CORE_WORDS + 3
STEPS = at.CORE_WORDS + 4  # ring: time, log return, OFI, depth within 5 bps, relative spread
DECAY = STEPS + at.RING_WORDS  # ring: time, OFI
TRADES = DECAY + at.RING_WORDS  # ring: time, size, side, effective spread
STEP_BLOCKS = TRADES + at.RING_WORDS  # rings of seconds: see `blocks`
TRADE_BLOCKS = STEP_BLOCKS + at.RING_WORDS
DECAY_BLOCKS = TRADE_BLOCKS + at.RING_WORDS  # second, decayed OFI of that second at its end, per horizon
REGIME_POINTER = DECAY_BLOCKS + at.RING_WORDS
REGIME_BLOCK_POINTER = REGIME_POINTER + 1
LONGEST_POINTER = REGIME_POINTER + 2
LONGEST_BLOCK_POINTER = REGIME_POINTER + 3
POINTERS = REGIME_POINTER + 4  # per horizon, see `rolling`
