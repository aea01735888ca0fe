"""The one decorator of kernel functions.

Compiled code is cached under a hash of every kernel's source. numba alone looks only at the file a function stands
in, and would go on running old code of a module that it inlined from; stale numbers are worse than a recompilation.

Nothing is allocated inside a kernel: it is compiled without numba's reference counting (`_nrt=False`), which would
count every view of an array, so an `np.empty` or a list in it does not compile. Scratch comes in as an argument.
Nor is an index checked, unless NUMBA_BOUNDSCHECK is set when a cache is first filled: `market.is_sound` and `Arena`
see to it that each lies where it should.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

_KEPT = 4
"""Folders of other sources that stay: a process that began before an upgrade is still writing to its own."""


def _changed(folder: Path) -> float:
    """When it changed last, s; 0 where another process has just removed it."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _cache_folder() -> Path:
    """A writable folder for this very source: beside it, or in the user's cache, or in NUMBA_CACHE_DIR.

    numba wants to write where it reads: one that can only be read, as in a container's image, is copied.
    """
    sources = sorted(Path(__file__).parent.glob("*.py"))
    sources += [Path(__file__).parent.parent / "batch.py"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    given = os.environ.get("NUMBA_CACHE_DIR")
    filled: Path | None = None
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fluxforge"
    for parent in (Path(given),) if given else (Path(__file__).parent / "__pycache__", user):
        folder = parent / f"kernels-{digest}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            for old in sorted(parent.glob("kernels-*"), key=_changed)[:-_KEPT]:
                if old != folder:
                    shutil.rmtree(old, ignore_errors=True)
            return folder
        filled = folder
    made = Path(tempfile.gettempdir()) / f"fluxforge-kernels-{digest}-{os.getuid()}"
    if filled is not None and not made.exists():
        scratch = Path(tempfile.mkdtemp(dir=made.parent))
        shutil.copytree(filled, scratch, dirs_exist_ok=True)
        with suppress(OSError):  # another process was first
            scratch.rename(made)
        shutil.rmtree(scratch, ignore_errors=True)
    return made


numba.config.CACHE_DIR = str(_cache_folder())

njit = numba.njit(cache=True, error_model="numpy", _nrt=False)
"""Compile to machine code at the first call, once per machine and source."""


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """The array as numba shall see it, however it was made.

    Writable or not is part of a signature: a second one would be compiled again, and two processes that write
    different ones into one cache at a time may leave the name of one upon the code of the other.
    """
    view = array.view()
    view.flags.writeable = False
    return view


word = np.uint64
"""An index of an array of words: unsigned, so that no machine code asks whether it counts from the end."""
