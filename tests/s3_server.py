"""A real S3 server for tests: versitygw over a folder, built by Go."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import boto3

from fluxforge.files.s3 import S3Options, S3Storage
from go_tools import VERSITYGW
from kafka_broker import die_with_parent, free_ports

KEY, SECRET = "test-key", "test-secret"
READY_SECONDS = 20


class S3Server:
    """A gateway over a folder of its own."""

    def __init__(self) -> None:
        binary = VERSITYGW.program()
        self.directory = Path(tempfile.mkdtemp(prefix="fluxforge-s3-"))
        for name in ("data", "meta"):
            (self.directory / name).mkdir()
        (port,) = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{port}"
        self._argv = [
            *(str(binary), "--port", f"127.0.0.1:{port}", "--keep-alive", "--quiet"),
            *("posix", "--sidecar", str(self.directory / "meta"), str(self.directory / "data")),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Again over the same folder, where it was stopped."""
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, stdout=log, stderr=log, preexec_fn=die_with_parent,
                env={**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
            )  # fmt: skip
        until = time.monotonic() + READY_SECONDS
        host, port = self.endpoint.removeprefix("http://").split(":")
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise RuntimeError(f"versitygw ended:\n{(self.directory / 'server.log').read_text()[-2000:]}")
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError("versitygw was not ready")

    def kill(self) -> None:
        """kill -9, as a power cut is for a server."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which all AWS tools find the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip

    def options(self, endpoint: str | None = None) -> S3Options:
        return S3Options(endpoint_url=endpoint or self.endpoint, region="us-east-1", access_key=KEY, secret_key=SECRET)

    def bucket(self) -> str:
        """A new bucket."""
        name = f"b{uuid.uuid4().hex[:16]}"
        boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1", aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        ).create_bucket(Bucket=name)  # fmt: skip
        return name

    def storage(self, prefix: str = "", endpoint: str | None = None) -> S3Storage:
        """A bucket of its own."""
        return S3Storage(self.bucket(), prefix, self.options(endpoint))
