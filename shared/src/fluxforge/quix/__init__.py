"""quixstreams on the pipeline's topics, for work at row rate: an application from our settings, topics and serdes.

    settings = load()
    app = quix.application(settings, "surprise", state=Path("state"))
    rows = app.dataframe(quix.features(app, settings, ["ofi_sum_5s"]))
    rows = rows.apply(surprise, stateful=True)
    rows.to_topic(quix.output(app, settings, "mine.features"))
    quix.run(app, Stop())

It needs a Kafka broker, and the extra `quix` of this package.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings(record=True):  # what it depends on has moved, which is its own affair
    import quixstreams  # noqa: F401

from fluxforge.quix.application import application, run
from fluxforge.quix.serdes import EventDeserializer, RowDeserializer, RowSerializer
from fluxforge.quix.streams import bars, cross, features, output, raw

__all__ = [
    "EventDeserializer",
    "RowDeserializer",
    "RowSerializer",
    "application",
    "bars",
    "cross",
    "features",
    "output",
    "raw",
    "run",
]
