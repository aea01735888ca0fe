"""`python -m fluxforge.guarded MODULE OPTIONS…`: a program that ends when its supervisor does.

Standard input is a pipe the supervisor holds open and never writes to. When it closes, however the supervisor ended,
the program gets a SIGTERM and shuts down in order: no orphan goes on writing.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def main() -> None:
    threading.Thread(target=_watch, name="guard", daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
