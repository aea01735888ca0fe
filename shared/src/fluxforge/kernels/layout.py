"""Where things stand in a key's record: word indices (8 bytes each) from the record's base.

A key's whole state is one run of words in an arena, read as int64 or float64: a header, rings, and last the L2 book.
Everything in it is relative to the base, so a record can be copied, saved, restored and compared by its bytes. What
precedes the book is what a snapshot holds as long as the log can rebuild the book quickly.
"""

# Core: common to every kernel.
SIZE = 0  # words of the record
HEAD = 1  # words before the bid side: what a snapshot holds
RESUME = 2  # events before this offset are in the record already
BOOK_OFFSET = 3  # offset of the newest BookSnapshot: rebuilding starts there; −1 without
TIME = 4  # key time t, ns; NO_TS before the first
COLLECTOR = 5  # crc32 of the collector being followed, −1 before the first event
HAVE_BOOK = 6  # 1 when the L2 book is in sync
HAVE_PREV = 7  # 1 when the previous valid book may be differenced with
KNOWN = 8  # 1 when the newest spread and depth still hold (no reset or invalid book since)
PREV_TIME = 9  # t of the previous valid book
PREV_MID = 10  # float
QUOTE_MID = 11  # float, NaN when no valid book holds
QUOTE_SPREAD = 12  # float
GAP_COUNT = 13  # resets and invalid books since the last row
LATE_COUNT = 14  # books and trades behind t since the last row
UPDATES = 15  # exchange updates folded into the books since the last row
SIDE_BID = 16  # four words: offset, capacity, slots used, live levels
SIDE_ASK = 20
SIDE_AT, SIDE_CAP, SIDE_N, SIDE_LIVE = 0, 1, 2, 3
REBUILDS = 24  # 1 in a record restored without its book: events before RESUME rebuild it
CORE_WORDS = 25

# Rings: offset, capacity (a power of two), entries ever pushed, oldest entry kept.
RING_AT, RING_CAP, RING_N, RING_LO = 0, 1, 2, 3
RING_WORDS = 4

# Why `run` returned before the end of the batch.
DONE = 0
GROW = 1
OUTPUT_FULL = 2
UNSOUND = 3

# Reasons of rejects, as they appear in the dead-letter topic.
REASONS = (
    "ok",
    "empty_side",
    "not_finite",
    "not_positive",
    "bids_unsorted",
    "asks_unsorted",
    "crossed",
    "future_stamp",
    "bad_level",
    "bad_trade",
)
(
    OK,
    EMPTY_SIDE,
    NOT_FINITE,
    NOT_POSITIVE,
    BIDS_UNSORTED,
    ASKS_UNSORTED,
    CROSSED,
    FUTURE_STAMP,
    BAD_LEVEL,
    BAD_TRADE,
) = range(10)

FUTURE_TOLERANCE_NS = 5_000_000_000
COLLECTOR_SILENCE_NS = 10_000_000_000
