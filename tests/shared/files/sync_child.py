"""A process that syncs one tree to another and kills itself at a given moment of a given step.

python sync_child.py SOURCE TARGET STEP TIMES      STEP "" never
"""

from __future__ import annotations

import os
import signal
import sys
from threading import Lock

from fluxforge.files import Tree
from fluxforge.files.sync import Options, sync
from fluxforge.storage import storage


def run(source: str, target: str, step: str, times: int) -> None:
    left, lock = times, Lock()

    def die_at(name: str) -> None:
        nonlocal left
        with lock:
            if name == step:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    result = sync(Tree(storage(source, "")), Tree(storage(target, "")), Options(workers=2), step=die_at)
    assert not result.failed, result.failed


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
