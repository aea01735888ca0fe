"""`RECORDER=FILE python -m chaos.worker MODULE OPTIONS…`: a service that writes down what its runtime is at."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from chaos.recorder import At, Recorder, Word
from fluxforge.log.kafka.transactor import KafkaTransactor
from fluxforge.log.sqlite.transactor import SqliteTransactor
from fluxforge.processor import Runtime


def main() -> None:
    watch(Recorder(Path(os.environ["RECORDER"])))
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def watch(recorder: Recorder) -> None:
    """Wrap the steps that a fault can meet; what they do is untouched."""

    def held(runtime: Runtime) -> None:
        recorder[Word.HELD] = len(runtime._partitions)
        recorder.mark(At.CATCH_UP, any(p.next_offset < p.committed for p in runtime._partitions.values()))

    def wrap(of: type, name: str, at: At | None = None, counted: Word | None = None, then: Any = None) -> None:
        call: Callable[..., Any] = getattr(of, name)

        def wrapped(self: Any, *args: Any, **options: Any) -> Any:
            if counted is not None:
                recorder[counted] += 1
            with recorder.during(at) if at is not None else nullcontext():
                done = call(self, *args, **options)
            if then is not None:
                then(self)
            return done

        setattr(of, name, wrapped)

    for transactor in (KafkaTransactor, SqliteTransactor):
        wrap(transactor, "commit", At.COMMIT)
    wrap(Runtime, "_append_state", At.SNAPSHOT)
    wrap(Runtime, "_restore", At.RESTORE)
    wrap(Runtime, "assigned", counted=Word.TAKEN)
    wrap(Runtime, "revoked", At.HAND_OVER, Word.HANDED_OVER)
    wrap(Runtime, "lost", counted=Word.LOST)
    wrap(Runtime, "_refuse", counted=Word.REFUSED)
    wrap(Runtime, "_rejoin", counted=Word.REJOINED)
    wrap(Runtime, "turn", then=held)


if __name__ == "__main__":
    main()
