"""The bootstrap finds, installs or fetches uv, from an index of our own on this machine."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "bootstrap.py"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel() -> bytes:
    """A wheel whose uv says with what it was called."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("uv-1.2.3.data/scripts/uv", '#!/bin/sh\necho "uv $*" >> "$(dirname "$0")/calls"\n')
    return made.getvalue()


class Index:
    """A package index with one wheel; `kind` is its page's format, `sha256` what it claims, `user` who may read."""

    def __init__(self, name: str, kind: str = "json", sha256: str | None = None, user: str = "") -> None:
        content = wheel()
        digest = hashlib.sha256(content).hexdigest() if sha256 is None else sha256
        old = name.replace("1.2.3", "0.9.9")
        if kind == "json":
            files = [{"filename": n, "url": f"../../f/{n}", "hashes": {"sha256": digest}} for n in (name, old)]
            page = json.dumps({"files": files}).encode()
        else:
            page = "".join(f'<a href="../../f/{n}#sha256={digest}">{n}</a>\n' for n in (old, name)).encode()
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.seen.append(self.path)
                if user and not (self.headers["Authorization"] or "").startswith("Basic "):
                    self.send_error(401)
                    return
                body = page if self.path == "/simple/uv/" else content if self.path == f"/f/{name}" else b""
                self.send_response(200 if body else 404)
                json_page = "application/vnd.pypi.simple.v1+json"
                self.send_header("Content-Type", json_page if kind == "json" else "text/html")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.seen: list[str] = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://{user}127.0.0.1:{self.server.server_port}/simple"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def wheel_name(bootstrap: ModuleType) -> str:
    tag = bootstrap.tags().pattern.replace(r"\d+_\d+", "2_17")
    return f"uv-1.2.3-py3-none-{tag}.whl"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the script, and a Python that knows neither pip nor venv."""
    (tmp_path / "project" / "deploy").mkdir(parents=True)
    (tmp_path / "project" / "deploy" / "bootstrap.py").write_text(SCRIPT.read_text())
    for module in ("pip", "venv", "ensurepip"):
        (tmp_path / "hidden" / module).mkdir(parents=True)
        (tmp_path / "hidden" / module / "__init__.py").write_text("raise ImportError('not here')")
    return tmp_path / "project"


@pytest.fixture
def run(project: Path) -> Run:
    def once(index: str, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(project / "deploy" / "bootstrap.py")],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": path, "PYTHONPATH": str(project.parent / "hidden"), "UV_DEFAULT_INDEX": index},
        )

    return once


@pytest.mark.parametrize("kind", ["json", "html"])
@pytest.mark.parametrize("user", ["", "me:secret@"])
def test_without_uv_pip_and_venv_the_wheel_is_fetched_and_used(
    project: Path, run: Run, wheel_name: str, kind: str, user: str
) -> None:
    index = Index(wheel_name, kind, user=user)
    try:
        done = run(index.url)
        again = run(index.url)
    finally:
        index.close()
    assert (done.returncode, again.returncode) == (0, 0), done.stderr
    assert index.seen == ["/simple/uv/", f"/f/{wheel_name}"], "the second run takes what is there"
    assert "secret" not in done.stdout + done.stderr
    calls = (project / ".tools" / "bin" / "calls").read_text().splitlines()
    assert calls == ["uv sync --frozen", "uv --version", "uv sync --frozen"]
    assert os.access(project / ".tools" / "bin" / "uv", os.X_OK)


def test_a_wheel_of_another_hash_is_refused(project: Path, run: Run, wheel_name: str) -> None:
    index = Index(wheel_name, sha256="0" * 64)
    try:
        done = run(index.url)
    finally:
        index.close()
    assert done.returncode == 1
    assert "the index says 000000" in done.stderr
    assert not (project / ".tools" / "bin" / "uv").exists()


@pytest.mark.parametrize(
    ("name", "sha256", "said"),
    [
        ("uv-1.2.3-py3-none-win32.whl", None, "no wheel of uv for this machine"),
        ("", "", "gives no sha256"),
    ],
)
def test_an_index_without_a_usable_wheel_is_told(
    run: Run, wheel_name: str, name: str, sha256: str | None, said: str
) -> None:
    index = Index(name or wheel_name, sha256=sha256)
    try:
        done = run(index.url)
    finally:
        index.close()
    assert done.returncode == 1
    assert said in done.stderr and "Traceback" not in done.stderr


def test_an_index_that_does_not_answer_is_named(run: Run) -> None:
    done = run("http://127.0.0.1:9/simple")
    assert done.returncode == 1
    assert "http://127.0.0.1:9/simple/uv/" in done.stderr and "Traceback" not in done.stderr


def test_uv_on_the_path_is_taken(project: Path, run: Run, tmp_path: Path) -> None:
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text('#!/bin/sh\necho "$*" >> "$(dirname "$0")/calls"\n')
    uv.chmod(0o755)
    assert run("http://127.0.0.1:9/simple", f"{uv.parent}:/usr/bin:/bin").returncode == 0
    assert (uv.parent / "calls").read_text().splitlines() == ["--version", "sync --frozen"]
    assert not (project / ".tools").exists()
