"""Every metric of every service; `fluxforge.endpoint` serves them.

Names stand here and nowhere else. One metric has a symbol for a label, up to a cap: a thousand symbols must not become
a thousand series. Counters get `_total` appended when served.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, Info

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0)

# What runs.
BUILD = Info("fluxforge_build", "Version of the running service")
READY = Gauge("fluxforge_ready", "1 where the service does its work, 0 where /readyz says what it waits for")
TURN_AGE = Gauge("fluxforge_turn_age_seconds", "Time since the main loop last turned")

# Sockets to log. `source` is ccxt or the native adapter; `kind` a name of fluxforge.events.Kind in lower case.
FRAMES = Counter("fluxforge_frames", "WebSocket frames received", ["source", "exchange"])
BAD_FRAMES = Counter("fluxforge_bad_frames", "Frames that did not parse", ["source", "exchange"])
EVENTS = Counter("fluxforge_events", "Events handed to the log", ["source", "exchange", "kind"])
GAPS = Counter("fluxforge_gaps", "Holes seen in an exchange's sequence or trade ids", ["source", "exchange"])
RESETS = Counter("fluxforge_resets", "Reset events by reason", ["source", "exchange", "reason"])
RESYNCS = Counter("fluxforge_resyncs", "Books rebuilt from a fresh snapshot", ["source", "exchange"])
AUDITS = Counter("fluxforge_audits", "Books compared with a fresh REST snapshot", ["source", "exchange"])
DRIFTED = Counter("fluxforge_drifted_levels", "Levels that differed from it", ["source", "exchange"])
DUPLICATES = Counter("fluxforge_duplicates", "Updates and trades seen before and dropped", ["source", "exchange"])
BACKFILLED = Counter("fluxforge_backfilled_trades", "Trades fetched over REST", ["source", "exchange"])
SKIPPED = Counter("fluxforge_skipped", "Messages that are no market data of ours", ["source", "exchange", "reason"])
SHED = Counter("fluxforge_shed_updates", "Events dropped under load, behind a Reset", ["source", "exchange", "kind"])
CONNECTS = Counter("fluxforge_connects", "Sockets opened", ["source", "exchange"])
DISCONNECTS = Counter("fluxforge_disconnects", "Sockets lost, by reason", ["source", "exchange", "reason"])
CONNECTED = Gauge("fluxforge_connected", "Sockets open now", ["source", "exchange"])
SKEW = Gauge("fluxforge_clock_skew_seconds", "Exchange clock less our own", ["source", "exchange"])
HEARD = Gauge(
    "fluxforge_market_heard_timestamp_seconds",
    "When an event or heartbeat of a market last came, of the first metrics.markets",
    ["source", "exchange", "symbol"],
)
QUEUE = Gauge("fluxforge_queue_events", "Events between sockets and log", ["collector"])
QUEUE_MOST = Gauge("fluxforge_queue_most_events", "The most that there were at once since the start", ["collector"])
QUEUE_CAPACITY = Gauge("fluxforge_queue_capacity_events", "Where load shedding begins", ["collector"])

LOG_WRITE = Histogram(
    "fluxforge_log_write_seconds",
    "How long events that wait for the log still wait, one look each 2 s",
    ["collector"],
    buckets=_SECONDS,
)

# Log to processors and sinks. `role` is the group: bronze, features, bars, cross, lake…
CONSUMED = Counter("fluxforge_consumed", "Records read", ["role", "topic"])
PRODUCED = Counter("fluxforge_produced", "Records written", ["role", "topic"])
POSITION = Gauge("fluxforge_position", "Next offset to read, from the assignment on", ["role", "topic", "partition"])
ASSIGNED = Gauge("fluxforge_assigned_partitions", "Partitions this member reads", ["role"])
LAG = Gauge("fluxforge_lag_records", "Records behind the end of the log", ["role", "topic", "partition"])
LAG_SECONDS = Gauge(
    "fluxforge_lag_seconds", "Age of the last record read; 0 at the end of the log", ["role", "topic", "partition"]
)
WATERMARK = Gauge("fluxforge_watermark_timestamp_seconds", "The newest event time processed, since 1970", ["role"])
LATE = Counter("fluxforge_late", "Events that came after their bar, or rows after their step, had closed", ["role"])
DEAD = Counter("fluxforge_dlq", "Records sent to the dead-letter topic, by reason", ["role", "reason"])
INVALID_BOOKS = Counter("fluxforge_invalid_books", "Books that give no features, by reason", ["role", "reason"])
COMMITS = Histogram("fluxforge_commit_seconds", "Duration of a commit", ["role"], buckets=_SECONDS)
COMMIT_TIME = Gauge("fluxforge_last_commit_timestamp_seconds", "When something was last committed", ["role"])
END_TO_END = Histogram(
    "fluxforge_end_to_end_seconds", "Age of the oldest record of a commit when it was made", ["role"], buckets=_LONG
)
RESTORE = Gauge("fluxforge_restore_seconds", "Duration of the last restore", ["role"])
SNAPSHOTS = Counter("fluxforge_snapshots", "State snapshots written", ["role"])
FENCED = Counter("fluxforge_fenced", "Times another writer took over", ["role"])

# Files. `table` is a Bronze channel or a lake table.
ROWS = Counter("fluxforge_rows", "Rows committed to files", ["role", "table"])
SEGMENTS = Counter("fluxforge_segments", "Files committed", ["role", "table"])
SEGMENT_BYTES = Counter("fluxforge_segment_bytes", "Bytes of the files committed", ["role", "table"])
FSYNCS = Histogram(
    "fluxforge_fsync_seconds", "Each wait of a commit for the disk or the bucket", ["role"], buckets=_SECONDS
)
WAITING = Gauge("fluxforge_waiting_partitions", "Partitions whose store failed and is tried again later", ["role"])
ACTIVE_AGE = Gauge("fluxforge_open_segment_age_seconds", "Age of the oldest row not yet committed", ["role"])
FILE_ERRORS = Counter("fluxforge_file_errors", "Failed writes that were retried, by reason", ["role", "reason"])
FILE_GAPS = Counter("fluxforge_file_gaps", "Runs of offsets lost before they reached a file", ["role"])
UNDECODABLE = Counter("fluxforge_undecodable", "Records kept as bytes because they do not decode", ["role"])

# Stored data. `step` is sync, compact or retain; `outcome` done, failed or waiting.
MAINTENANCE = Counter("fluxforge_maintenance", "Steps of maintenance that ended", ["step", "outcome"])
MAINTENANCE_SECONDS = Gauge("fluxforge_maintenance_seconds", "Duration of the last one", ["step"])
