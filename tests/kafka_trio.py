"""Three nodes of Apache Kafka on this machine, each broker and controller; a record is acknowledged by two of three."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kafka_broker import PROPERTIES, ApacheKafka, cluster_id, free_ports, libraries

OF_THREE = """
node.id={node}
controller.quorum.voters={voters}
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
"""
"""Of properties given twice the last one counts."""


class Node(ApacheKafka):
    """One of them. `launch` does not wait, because none is ready before a second one is there."""

    def __init__(self, node: int, ports: tuple[int, int], voters: str, cluster: str) -> None:
        self._libs, self._cluster = libraries(), cluster
        self.directory = Path(tempfile.mkdtemp(prefix=f"fluxforge-kafka-{node}-"))
        port, controller = ports
        self.bootstrap = f"127.0.0.1:{port}"
        self._properties = self.directory / "server.properties"
        text = PROPERTIES.format(port=port, controller=controller, directory=self.directory)
        self._properties.write_text(text + OF_THREE.format(node=node, voters=voters), encoding="utf-8")
        self._process = None
        self._format()

    def launch(self) -> None:
        self._process = self._java("kafka.Kafka", str(self._properties), heap="-Xmx384m")

    def await_ready(self) -> None:
        self._await_ready()


@contextmanager
def trio() -> Iterator[list[Node]]:
    """The three, ready."""
    ports = free_ports(6)
    pairs = list(zip(ports[:3], ports[3:], strict=True))
    voters = ",".join(f"{k}@127.0.0.1:{controller}" for k, (_, controller) in enumerate(pairs, 1))
    cluster = cluster_id()
    nodes: list[Node] = []
    try:
        for k, pair in enumerate(pairs, 1):
            nodes.append(Node(k, pair, voters, cluster))
        for node in nodes:
            node.launch()
        for node in nodes:
            node.await_ready()
        yield nodes
    finally:
        for node in nodes:
            node.stop()
