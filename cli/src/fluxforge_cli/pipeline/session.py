"""One run of the whole pipeline: started, running, ended in order, summed up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fluxforge.service import Stop
from fluxforge.settings import Settings
from fluxforge_cli.pipeline import plan, summary
from fluxforge_cli.pipeline.child import Child
from fluxforge_cli.pipeline.display import Display
from fluxforge_cli.pipeline.plan import Program
from fluxforge_cli.pipeline.run import Run
from fluxforge_cli.pipeline.summary import Summary


@dataclass(frozen=True)
class Session:
    """What to run. `exchange` is a simulator that the collectors read from: it ends last."""

    title: str
    settings: Settings
    config: Path | None
    sources: tuple[str, ...]
    root: Path
    environ: Mapping[str, str]
    seconds: float | None
    fresh: bool
    exchange: Child | None = None


def run(session: Session, display: Display, stop: Stop) -> Summary:
    """Run until the time is over or `stop` is set; nothing runs any more when this returns.

    Raises PipelineFailed when a program cannot be kept running.
    """
    pipeline = Run(
        session.title,
        session.settings,
        session.root / "logs",
        session.environ,
        display,
        seconds=session.seconds,
        from_end=not session.fresh,
    )
    try:
        return _in_order(pipeline, session, stop)
    finally:
        pipeline.kill()
        pipeline.close()


def _in_order(run: Run, session: Session, stop: Stop) -> Summary:
    if session.exchange:
        run.adopt(session.exchange, Program(session.exchange.name, ()))
    readers, lakes = plan.consumers(run.topics, session.config), plan.lakes(run.topics, session.config)
    across = plan.across(session.settings, session.config)
    collectors = plan.collectors(session.settings, session.sources, session.config)
    run.wait_ready(run.start([*readers, *across, *lakes, *collectors]), stop)
    run.wait_flowing(plan.exchanges(session.settings, session.sources), readers, stop)
    if not stop.is_set():
        run.begin()
        run.run(stop)
    elapsed, rate = run.elapsed(), run.rate()
    stages = (collectors, readers, across, lakes)
    first, *then = ([program.name for program in stage] for stage in stages)
    last = [session.exchange.name] if session.exchange else []
    trouble = run.shut_down([(first, False), *((names, True) for names in then), (last, False)])
    return summary.make(run, session.root, elapsed, rate, trouble)
