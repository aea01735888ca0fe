"""Every metric of every service, and the endpoint that serves them.

Names stand here and nowhere else. No metric has a symbol for a label: a thousand symbols must not become a thousand
series. Counters get `_total` appended when served.
"""

from __future__ import annotations

import errno
from importlib.metadata import version

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Info, start_http_server

from fluxforge.errors import PortInUse

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# What runs.
BUILD = Info("fluxforge_build", "Version of the running service")

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
QUEUE = Gauge("fluxforge_queue_events", "Events between sockets and log")
QUEUE_MOST = Gauge("fluxforge_queue_most_events", "The most that there were at once since the start")
QUEUE_CAPACITY = Gauge("fluxforge_queue_capacity_events", "Where load shedding begins")

# Log to processors and sinks. `role` is the group: bronze, features, bars, lake…
CONSUMED = Counter("fluxforge_consumed", "Records read", ["role", "topic"])
PRODUCED = Counter("fluxforge_produced", "Records written", ["role", "topic"])
POSITION = Gauge("fluxforge_position", "Next offset to read, from the assignment on", ["role", "topic", "partition"])
LAG = Gauge("fluxforge_lag_records", "Records behind the end of the log", ["role", "topic", "partition"])
LAG_SECONDS = Gauge("fluxforge_lag_seconds", "Age of the last record read", ["role", "topic", "partition"])
LATE = Counter("fluxforge_late", "Events that came after their bar had closed", ["role"])
DEAD = Counter("fluxforge_dlq", "Records sent to the dead-letter topic, by reason", ["role", "reason"])
INVALID_BOOKS = Counter("fluxforge_invalid_books", "Books that give no features, by reason", ["role", "reason"])
COMMITS = Histogram("fluxforge_commit_seconds", "Duration of a commit", ["role"], buckets=_SECONDS)
RESTORE = Gauge("fluxforge_restore_seconds", "Duration of the last restore", ["role"])
SNAPSHOTS = Counter("fluxforge_snapshots", "State snapshots written", ["role"])
FENCED = Counter("fluxforge_fenced", "Times another writer took over", ["role"])

# Files. `table` is a Bronze channel or a lake table.
ROWS = Counter("fluxforge_rows", "Rows committed to files", ["role", "table"])
SEGMENTS = Counter("fluxforge_segments", "Files committed", ["role", "table"])
SEGMENT_BYTES = Counter("fluxforge_segment_bytes", "Bytes of the files committed", ["role", "table"])
ACTIVE_AGE = Gauge("fluxforge_active_age_seconds", "Age of the oldest row not yet committed", ["role"])
FILE_ERRORS = Counter("fluxforge_file_errors", "Failed writes that were retried, by reason", ["role", "reason"])
FILE_GAPS = Counter("fluxforge_file_gaps", "Runs of offsets lost before they reached a file", ["role"])
UNDECODABLE = Counter("fluxforge_undecodable", "Records kept as bytes because they do not decode", ["role"])

# Stored data. `step` is sync, compact or retain; `outcome` done, failed or waiting.
MAINTENANCE = Counter("fluxforge_maintenance", "Steps of maintenance that ended", ["step", "outcome"])
MAINTENANCE_SECONDS = Gauge("fluxforge_maintenance_seconds", "Duration of the last one", ["step"])


def serve(service: str, host: str, port: int) -> int:
    """Serve `/metrics` on a thread and return the port (another than given where that is 0). Raises PortInUse."""
    BUILD.info({"service": service, "version": version("fluxforge")})
    try:
        server, _ = start_http_server(port, host, REGISTRY)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise PortInUse(
                f"metrics: {host}:{port} cannot be listened on: {error.strerror}",
                hint="set metrics.port, or --metrics-port N (0 takes a free one, off serves none)",
            ) from None
        raise
    return int(server.server_port)
