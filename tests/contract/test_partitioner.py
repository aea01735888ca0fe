"""Our partitioner is Java's."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

import kafka_broker
from fluxforge.topics import murmur2, partition_of

VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""From Apache Kafka's own test of Utils.murmur2."""

JAVA = """
import java.util.HexFormat;
public class Partitions {
    public static void main(String[] args) throws Exception {
        var lines = new java.io.BufferedReader(new java.io.InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null; ) {
            byte[] key = HexFormat.of().parseHex(line);
            System.out.println(org.apache.kafka.clients.producer.internals.BuiltInPartitioner.partitionForKey(key, 48));
        }
    }
}
"""


@pytest.mark.parametrize(("key", "hashed"), VECTORS.items())
def test_murmur2_gives_kafkas_own_vectors(key: bytes, hashed: int) -> None:
    assert murmur2(key) == hashed & 0xFFFFFFFF


@pytest.mark.kafka
def test_partitions_are_those_of_the_java_client(tmp_path: Path, kafka_url: str) -> None:
    if not shutil.which("javac") or not kafka_broker.libraries_are_there():
        pytest.skip("JAVA'S PARTITIONER NOT TESTED: no Java compiler, or Kafka's jars are not there")
    source = tmp_path / "Partitions.java"
    source.write_text(JAVA, encoding="utf-8")
    chance = random.Random(3)
    keys = [chance.randbytes(length) for length in range(1, 40) for _ in range(20)] + list(VECTORS)
    done = subprocess.run(
        ["java", "-cp", f"{kafka_broker.libraries()}/*", str(source)],
        input="\n".join(key.hex() for key in keys),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert [int(line) for line in done.stdout.split()] == [partition_of(key, 48) for key in keys]
