"""Programs that tests need and Go builds, each once, into `.cache/`. `make test` has them all built first."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from kafka_broker import locked

CACHE = Path(__file__).resolve().parents[1] / ".cache"


@dataclass(frozen=True)
class GoTool:
    """A program of a Go module. `without` is what is not tested where there is no Go."""

    name: str
    package: str
    version: str
    without: str

    def program(self) -> Path:
        """Its path, once it is built; skips the test where it cannot be had."""
        folder = CACHE / self.name
        binary = folder / f"{self.name}-{self.version}"
        with locked(folder):
            if not binary.exists():
                go = shutil.which("go", path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/go/bin")
                if go is None:
                    pytest.skip(f"{self.without} NOT TESTED: Go is not there to build {self.name} with")
                self._build(go, binary)
        return binary

    def _build(self, go: str, binary: Path) -> None:
        """A minute or ten, once."""
        with tempfile.TemporaryDirectory(dir=binary.parent) as scratch:
            subprocess.run(
                [go, "install", f"{self.package}@v{self.version}"],
                env={**os.environ, "GOBIN": scratch, "CGO_ENABLED": "0"},
                check=True,
                timeout=1500,
            )
            (Path(scratch) / self.name).rename(binary)


VERSITYGW = GoTool("versitygw", "github.com/versity/versitygw/cmd/versitygw", "1.8.0", "S3")
KUSTOMIZE = GoTool("kustomize", "sigs.k8s.io/kustomize/kustomize/v5", "5.7.1", "Kubernetes manifests")

if __name__ == "__main__":  # before the tests, whose own time is limited
    for tool in (KUSTOMIZE, VERSITYGW):
        try:
            tool.program()
        except pytest.skip.Exception as reason:
            print(reason)
