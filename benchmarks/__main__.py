"""`python -m benchmarks [NAME]…`: run benchmarks by name, all without one.

A benchmark is a module of this folder with a `run()`: it prints tables of ratios measured in that one run, and last
one JSON line {"bench": name, …}. Each runs in a process of its own, so that none finds another's caches warm.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

NAMES = sorted(
    path.stem for path in Path(__file__).parent.glob("*.py") if "\ndef run() -> None:" in path.read_text("utf-8")
)


def main(names: list[str]) -> int:
    """The first exit code other than 0, or 0."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    if len(names) == 1:
        importlib.import_module(f"benchmarks.{names[0]}").run()
        return 0
    codes = [
        subprocess.run([sys.executable, "-m", "benchmarks", name], check=False).returncode for name in names or NAMES
    ]
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
