"""The one decorator of kernel functions.

Compiled code is cached under a hash of every kernel's source. numba alone looks only at the file a function stands
in, and would go on running old code of a module that it inlined from; stale numbers are worse than a recompilation.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import numba
import numpy as np


def _cache_folder() -> Path:
    """A writable folder for this very source: beside it, or in the user's cache, or in NUMBA_CACHE_DIR."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    sources += [Path(__file__).parent.parent / "batch.py"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    given = os.environ.get("NUMBA_CACHE_DIR")
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fluxforge"
    for parent in (Path(given),) if given else (Path(__file__).parent / "__pycache__", user):
        folder = parent / f"kernels-{digest}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            for old in parent.glob("kernels-*"):
                if old != folder:
                    shutil.rmtree(old, ignore_errors=True)
            return folder
    return Path(tempfile.gettempdir()) / f"fluxforge-kernels-{digest}-{os.getuid()}"


numba.config.CACHE_DIR = str(_cache_folder())

njit = numba.njit(cache=True, error_model="numpy", _nrt=False)
"""Compile to machine code at the first call, once per machine and source."""

word = np.uint64
"""An index of an array of words: unsigned, so that no machine code asks whether it counts from the end."""
