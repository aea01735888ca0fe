"""The runtime that feature engine and bar builder share: raw topic in, rows out, exactly once.

    batches → decode → kernel → outputs ─┐
                                         ├─ one transaction with the input offsets
    state snapshots, now and then ───────┘

On assignment a partition is restored: its keys' snapshots are loaded and the raw log is read again from the oldest
book they need, with outputs suppressed up to the committed offset; then it goes on as if nothing had happened.
"""

from fluxforge.processor.compute import Kernel, Processor
from fluxforge.processor.decode import Decoded
from fluxforge.processor.runtime import Runtime

__all__ = ["Decoded", "Kernel", "Processor", "Runtime"]
