"""Every error the product raises on purpose, in one tree.

FluxForgeError                what went wrong, and `hint`: the way out
├── ConfigError               a setting is unknown, missing or wrong
├── PortInUse                 something else listens where we must
├── CodecError                bytes that are no event of ours
├── MarketDataError           what an exchange sent cannot be used
│   ├── FrameError            a frame that does not parse
│   └── UnknownSymbol         a symbol the exchange does not list
├── LogError                  the log said no
│   ├── UnknownTopic          the topic does not exist, or has another partition count
│   ├── OffsetOutOfRange      the offset is past retention or beyond the end
│   ├── Fenced                another writer has taken over
│   └── LogUnavailable        the broker or the file cannot be reached
└── StorageError              files: locked, full, refused
    ├── SegmentError          a segment that cannot be read
    ├── GapError              the log no longer reaches back to the last commit
    ├── WriterConflict        a commit record of another writer is already there
    ├── Superseded            records were merged or dropped while they were being read
    ├── DiskFull              no room left
    ├── StorageUnavailable    the store does not answer, or asks to come again
    └── UnsupportedStorage    no hard links or no fsync; no conditional writes
"""

from __future__ import annotations


class FluxForgeError(Exception):
    """Base of the tree.

    `hint` tells a person what to do next; it is printed under the message.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} ({self.hint})" if self.hint else message


class ConfigError(FluxForgeError):
    """A setting is unknown, missing or wrong; names the key and the file."""


class PortInUse(FluxForgeError):
    """Something else listens where we must."""


class CodecError(FluxForgeError):
    """Bytes that are no event of ours."""


class MarketDataError(FluxForgeError):
    """What an exchange sent cannot be used."""


class FrameError(MarketDataError):
    """A frame that does not parse; carries the frame."""

    def __init__(self, message: str, *, frame: bytes = b"", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.frame = frame


class UnknownSymbol(MarketDataError):
    """A symbol the exchange does not list."""


class LogError(FluxForgeError):
    """The log said no."""


class UnknownTopic(LogError):
    """The topic does not exist, or has another partition count."""


class OffsetOutOfRange(LogError):
    """The offset is outside [first, next) of the partition.

    Attributes: topic, partition, offset (asked for), first and next (what the log holds).
    """

    def __init__(self, topic: str, partition: int, offset: int, first: int, next_: int) -> None:
        super().__init__(
            f"{topic}[{partition}]: offset {offset} is outside the log's [{first}, {next_})",
            hint="the reader fell behind the retention; rebuild it, or record the gap",
        )
        self.topic, self.partition, self.offset = topic, partition, offset
        self.first, self.next = first, next_


class Fenced(LogError):
    """Another writer with the same id, or another owner of the partition, has taken over."""


class LogUnavailable(LogError):
    """The broker or the file cannot be reached."""


class RecordsLost(LogError):
    """Records that were queued have been refused for good: what reads the log must not think it whole."""


class StorageError(FluxForgeError):
    """Files: locked, full, refused."""


class SegmentError(StorageError):
    """A segment that cannot be read; names the file."""


class GapError(StorageError):
    """The log no longer reaches back to the last commit."""


class WriterConflict(StorageError):
    """A commit record of another writer is already there."""


class Superseded(StorageError):
    """Records that were listed have been merged or dropped since: list them again."""


class DiskFull(StorageError):
    """No room left on the device."""


class StorageUnavailable(StorageError):
    """The store does not answer, or asks to come again."""


class UnsupportedStorage(StorageError):
    """A filesystem without hard links or fsync, a store without conditional writes."""
