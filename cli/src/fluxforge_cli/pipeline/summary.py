"""What a run came to."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fluxforge_cli.console import print_json
from fluxforge_cli.pipeline.child import PipelineFailed

if TYPE_CHECKING:
    from fluxforge_cli.pipeline.run import Run


@dataclass(frozen=True)
class Summary:
    """Counts of one run; `latency` p50 and p99 in ms, None without a feature row; `trouble` in words."""

    events: int
    bronze_rows: int
    segments: int
    feature_rows: int
    bars: int
    lake_rows: int
    lake_files: int
    gaps: int
    restarts: int
    elapsed: float
    rate: float
    latency: tuple[float, float] | None
    data_dir: Path
    source: str
    trouble: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        p50, p99 = (round(ms, 2) for ms in self.latency) if self.latency else (None, None)
        return {
            "events": self.events,
            "bronze_rows": self.bronze_rows,
            "feature_rows": self.feature_rows,
            "bars": self.bars,
            "gaps": self.gaps,
            "latency_ms": {"p50": p50, "p99": p99},
            "data_dir": str(self.data_dir),
        }


def make(run: Run, root: Path, elapsed: float, rate: float, trouble: Sequence[str]) -> Summary:
    """The summary of a run that has shut down."""
    counts = run.watch.counts
    busiest = max(run.watch.markets.values(), key=lambda market: market.rows, default=None)
    found = list(trouble)
    if run.from_start and counts.events != run.bronze.rows:
        found.append(f"Bronze holds {run.bronze.rows} rows of {counts.events} events")
    return Summary(
        events=counts.events,
        bronze_rows=run.bronze.rows,
        segments=run.bronze.files,
        feature_rows=counts.feature_rows,
        bars=counts.bars,
        lake_rows=run.lake.rows,
        lake_files=run.lake.files,
        gaps=counts.gaps,
        restarts=sum(child.restarts for child in run.children.values()),
        elapsed=elapsed,
        rate=rate,
        latency=run.latency(),
        data_dir=root,
        source=busiest.source if busiest else "*",
        trouble=found,
    )


def text(summary: Summary) -> str:
    """The summary for a person."""
    latency = "no feature row" if summary.latency is None else "p50 {:.0f} ms, p99 {:.0f} ms".format(*summary.latency)
    rows = [
        ("events in", f"{summary.events:,} in {summary.elapsed:.0f} s ({summary.rate:,.0f}/s)"),
        ("Bronze rows", f"{summary.bronze_rows:,} in {summary.segments:,} files"),
        ("feature rows", f"{summary.feature_rows:,}"),
        ("bars", f"{summary.bars:,}"),
        ("lake rows", f"{summary.lake_rows:,} in {summary.lake_files:,} files"),
        ("gaps", f"{summary.gaps:,}"),
        ("restarts", f"{summary.restarts:,}"),
        ("socket → feature", latency),
        ("files", str(summary.data_dir)),
    ]
    lines = [f"  {name:<17} {value}" for name, value in rows]
    if summary.feature_rows:
        lines += ["", "Look at the features:", "", f"  {query(summary)}"]
    return "\n".join(["", "Summary", *lines, ""])


def conclude(result: Summary, *, as_json: bool) -> None:
    """Print the summary. Raises PipelineFailed where something was wrong with the run."""
    if as_json:
        print_json(result.as_json())
    else:
        typer.echo(text(result))
    if result.trouble:
        raise PipelineFailed("; ".join(result.trouble), hint=f"the logs are in {result.data_dir / 'logs'}")


def query(summary: Summary) -> str:
    """A command that reads the run's newest feature rows."""
    folder = summary.data_dir / "processed" / summary.source / "orderbook" / "hf"
    columns = ["symbol", "timestamp", "mid_price", "relative_spread", "ofi_sum_5s", "rv_60s"]
    program = (
        f"import pyarrow.dataset as ds; t = ds.dataset({str(folder)!r}, partitioning='hive')"
        f".to_table(columns={columns}).sort_by('timestamp'); "
        "[print(*row.values()) for row in t.slice(max(0, len(t) - 10)).to_pylist()]"
    )
    quoted = shlex.quote(program) if set(str(folder)) & set('"$`!\\') else f'"{program}"'
    return f"{shlex.quote(_python())} -c {quoted}"


def _python() -> str:
    """This interpreter, as short as it can be said from here."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
