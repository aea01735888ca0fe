"""Lines of files into Bronze: each file is a log of its own, offset = line number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from fluxforge import bronze
from fluxforge.bronze import BronzeWriter, record_of
from fluxforge.errors import ConfigError, SegmentError
from fluxforge.events import KIND_OF
from fluxforge.files import Chain, ChainId, Tree
from fluxforge.log import Record
from fluxforge.storage import Root
from fluxforge_cli.importer import binance_capture, ccxt_ndjson, seed, tardis
from fluxforge_cli.importer.line import Line, content_hash

Reader = Callable[[Sequence[Path]], Iterator[tuple[Path, Iterator[Line]]]]
FORMATS: dict[str, Reader] = {
    "ccxt-ndjson": ccxt_ndjson.read,
    "tardis": tardis.read,
    "binance-capture": binance_capture.read,
    "seed": seed.read,
}

BATCH = 5000
"""Lines handed on at once."""

SEGMENT_BYTES = 50_000_000
BAD_SHOWN = 20
"""Bad lines named for each file; all are counted and stored."""

TOPIC = "import"


@dataclass
class Landed:
    """What became of one file.

    lines    lines read
    events   events by kind, in lower case
    bad      lines that hold something that is no event; `first_bad` names the first of them
    already  the file had been imported before, as far as it goes
    broken   why the file could not be read, or not to its end; None where it could
    """

    path: Path
    lines: int = 0
    events: Counter[str] = field(default_factory=Counter)
    bad: int = 0
    first_bad: list[str] = field(default_factory=list)
    already: bool = False
    broken: str | None = None


Progress = Callable[[Landed], None]


def land(paths: Sequence[Path], form: str, data: Root, progress: Progress = lambda _: None) -> list[Landed]:
    """Import files into `{data}/raw`.

    A bad line is counted, named and stored as undecodable; the next one is read. A file that breaks off keeps what
    was readable, one of another format is left out, and the next file is read: `broken` says so. The same content is
    never stored twice, whatever its name. Raises ConfigError for an unknown format or a path that is no file, and
    StorageError.
    """
    if form not in FORMATS:
        raise ConfigError(f"there is no format {form!r}", hint=f"one of {', '.join(FORMATS)}")
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"{path} is no file", hint="give the files to import; a folder is not searched")
    tree = bronze.tree(data)
    tree.storage.probe()
    unique = {content_hash(path): path for path in reversed(paths)}
    hashes = {path: log_id for log_id, path in unique.items()}
    found = [Landed(path, already=True) for path in paths if path not in hashes]
    for path, lines in FORMATS[form]([path for path in paths if path in hashes]):
        chain = ChainId(hashes[path], f"{TOPIC}.{form}", 0)
        found.append(_land_file(tree, chain, path, lines, progress))
    return found


def _land_file(tree: Tree, id_: ChainId, path: Path, lines: Iterator[Line], progress: Progress) -> Landed:
    landed = Landed(path)
    with closing(Chain.open(tree, id_, first=1)) as chain:
        writer = BronzeWriter(chain)
        begin = chain.next_offset
        waiting: list[Record] = []
        number = 0
        try:
            for line in lines:
                number = line.number
                landed.lines += 1
                _note(landed, line)
                if number >= begin:
                    waiting += _records(path, line)
                if landed.lines % BATCH == 0:
                    _flush(writer, waiting, number + 1)
                    progress(landed)
        except SegmentError as error:
            landed.broken = str(error)
        _flush(writer, waiting, number + 1, last=True)
        landed.already = number > 0 and number < begin
    progress(landed)
    return landed


def _flush(writer: BronzeWriter, waiting: list[Record], next_offset: int, *, last: bool = False) -> None:
    writer.append(waiting)
    waiting.clear()
    if writer.rows and (last or writer.bytes >= SEGMENT_BYTES):
        writer.commit(next_offset)


def _note(landed: Landed, line: Line) -> None:
    landed.events.update(KIND_OF[type(event)].name.lower() for event in line.events)
    if line.bad:
        landed.bad += 1
        if len(landed.first_bad) < BAD_SHOWN:
            landed.first_bad.append(f"{landed.path}:{line.number}: {line.bad}")


def _records(path: Path, line: Line) -> list[Record]:
    """The line's events, and the line itself where it holds something that is none."""
    records = [record_of(event, line.number) for event in line.events]
    if line.bad:
        place = f"{path.name}:{line.number}".encode()
        records.append(Record(0, line.number, 0, place, line.raw, (("error", line.bad.encode()),)))
    return records
