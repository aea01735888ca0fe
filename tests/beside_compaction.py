"""A process beside a compaction: one that looks at all there is each time it is asked, or a compactor that dies.

python beside_compaction.py ROOT look          a line on standard input: a line of JSON, `look` of ROOT
python beside_compaction.py ROOT TREE STEP     compact TREE, bronze | lake, and kill -9 at that step
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable

from typer.testing import CliRunner

from fluxforge import bronze, lake
from fluxforge.bronze import scan as of_bronze
from fluxforge.bronze.compaction import LAYOUT as BRONZE
from fluxforge.files.compact import Result, compact
from fluxforge.files.rowhash import row_hash
from fluxforge.files.runs import Options
from fluxforge.files.storage import no_step
from fluxforge.lake.compaction import LAYOUT as LAKE
from fluxforge_cli.main import app

VIEWS = ("bars", "orderbook")
SQL = " UNION ALL ".join(f"SELECT '{view}', count(*) AS n, sum(hash(v))::VARCHAR AS h FROM {view} v" for view in VIEWS)
TREES = {"bronze": (bronze.tree, BRONZE), "lake": (lake.lake_tree, LAKE)}


def look(root: str) -> dict[str, str]:
    """Count and hash, whatever the order, of all rows that `lake.scan`, `bronze.scan` and `fluxforge query` see."""
    stored = of_bronze.scan(root, "orderbook")
    assert stored.dataset is not None
    assert not stored.others
    answer = CliRunner().invoke(app, ["query", SQL, "--data-dir", root, "--json"])
    if answer.exception:
        raise answer.exception
    return {
        "lake.scan": str(row_hash(lake.scan(root, "bars").to_table())),
        "bronze.scan": str(row_hash(stored.dataset.to_table())),
        "query": answer.stdout,
    }


def run(
    root: str, tree: str, *, grace_s: float = 0.0, now: int | None = None, step: Callable[[str], None] = no_step
) -> Result:
    tree_of, layout = TREES[tree]
    done = compact(tree_of(root), layout, Options(grace_s=grace_s), now=now, step=step)
    assert not done.failed, done.failed
    return done


def main(root: str, what: str, step: str | None = None) -> None:
    if what == "look":
        for _ in sys.stdin:
            print(json.dumps(look(root)), flush=True)
        return

    def die(name: str) -> None:
        if name == step:
            os.kill(os.getpid(), signal.SIGKILL)

    run(root, what, step=die)


if __name__ == "__main__":
    main(*sys.argv[1:])
