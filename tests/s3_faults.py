"""A store that fails as real ones do: a loopback proxy in front of the S3 server that answers by a plan.

409, 412, 500, 503   the answer of a store that did nothing
drop                 the connection ends before the request reaches the store
lost                 the store has done it, and the connection ends without an answer
cut                  the store has done it, and the answer ends near its end
torn                 the store has done it, and the answer ends within the ETag

Each fault is given to a kind of request: put (records), create, part, complete and abort (uploads), head, get, list,
uploads (their listing), delete, copy.
"""

from __future__ import annotations

import http.client
import random
import socketserver
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

KINDS = ("put", "create", "part", "complete", "abort", "head", "get", "list", "uploads", "delete", "copy")
FAULTS = ("409", "412", "500", "503", "drop", "lost", "cut")

CODES = {
    "409": (409, "ConditionalRequestConflict"),
    "412": (412, "PreconditionFailed"),
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "expired": (400, "ExpiredToken"),
    "gone": (404, "NoSuchUpload"),
}

Plan = Callable[[str], str | None]
"""The fault of the next request of this kind, if any."""


class Request(NamedTuple):
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def kind(self) -> str:
        query = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        if self.method == "PUT":
            return "copy" if self.header("x-amz-copy-source") else "part" if "partNumber" in query else "put"
        if self.method == "POST":
            return "create" if "uploads" in query else "delete" if "delete" in query else "complete"
        if self.method == "DELETE":
            return "abort" if "uploadId" in query else "delete"
        if self.method == "HEAD":
            return "head"
        return "uploads" if "uploads" in query else "list" if "list-type" in query else "get"


def once(kind: str, fault: str, times: int = 1) -> Plan:
    """The first `times` requests of one kind fail."""
    return each(kind, *[fault] * times)


def each(kind: str, *faults: str) -> Plan:
    """The first requests of one kind fail, each in its way."""
    left, lock = list(faults), threading.Lock()

    def plan(asked: str) -> str | None:
        with lock:
            return left.pop(0) if asked == kind and left else None

    return plan


def seeded(seed: int, share: float = 0.12, longest: int = 8) -> Plan:
    """Each request may begin a run of 1, 2 or `longest` faults of its kind; the longest outlasts all retries."""
    chance, lock, runs = random.Random(seed), threading.Lock(), dict[str, list[str]]()

    def plan(kind: str) -> str | None:
        with lock:
            run = runs.setdefault(kind, [])
            if not run and chance.random() < share:
                run += [chance.choice(FAULTS)] * chance.choice((1, 1, 1, 2, longest))
            return run.pop() if run else None

    return plan


class FaultyStore:
    """The proxy, listening on a port of its own. `plan` may be set at any time; `given` counts kind and fault."""

    def __init__(self, upstream: str) -> None:
        self.plan: Plan = lambda _: None
        self.given: Counter[tuple[str, str]] = Counter()
        self.seen: Counter[str] = Counter()
        self._upstream = upstream.removeprefix("http://")
        self._server = _Server(("127.0.0.1", 0), self._serve)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, handler: socketserver.StreamRequestHandler) -> None:
        upstream = http.client.HTTPConnection(self._upstream, timeout=60)
        try:
            while (request := _read(handler)) is not None:
                if not self._answer(handler, request, upstream):
                    return
        except (ConnectionError, http.client.HTTPException):
            return
        finally:
            upstream.close()

    def _answer(
        self, handler: socketserver.StreamRequestHandler, request: Request, upstream: http.client.HTTPConnection
    ) -> bool:
        """Whether the connection stays open."""
        self.seen[request.kind] += 1
        fault = self.plan(request.kind)
        if fault is None:
            handler.wfile.write(_forward(upstream, request))
            return True
        self.given[request.kind, fault] += 1
        if fault in CODES:
            handler.wfile.write(_refusal(request, *CODES[fault]))
            return True
        if fault != "drop":
            answer = _forward(upstream, request)
            if fault == "cut":
                handler.wfile.write(_cut(answer))
            if fault == "torn":
                handler.wfile.write(answer[: answer.lower().index(b"\r\netag:") + 16])
        return False


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], serve: Callable[[Any], None]) -> None:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    serve(self)

        super().__init__(address, Handler)


def _read(handler: socketserver.StreamRequestHandler) -> Request | None:
    line = handler.rfile.readline().decode("latin-1").strip()
    if not line:
        return None
    method, target, _ = line.split(" ", 2)
    headers = []
    while (text := handler.rfile.readline().decode("latin-1").strip()) != "":
        name, _, value = text.partition(":")
        headers.append((name, value.strip()))
    request = Request(method, target, headers, b"")
    if (request.header("expect") or "").lower() == "100-continue":
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert request.header("transfer-encoding") is None, "no client here sends chunks"
    return request._replace(body=handler.rfile.read(int(request.header("content-length") or 0)))


def _forward(upstream: http.client.HTTPConnection, request: Request) -> bytes:
    """The store's answer, as it is put on the wire again; signatures cover the host, so that stays the proxy's."""
    upstream.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
    for name, value in request.headers:
        if name.lower() not in {"expect", "connection"}:
            upstream.putheader(name, value)
    with suppress(ConnectionError):  # a store may answer, and hang up, before it has read all
        upstream.endheaders(request.body)
    answer = upstream.getresponse()
    body = answer.read()
    hop = {"transfer-encoding", "connection", "content-length"}
    headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in hop]
    length = answer.getheader("content-length") if request.method == "HEAD" else str(len(body))
    return _wire(answer.status, answer.reason, [*headers, ("Content-Length", length or "0")], body)


def _refusal(request: Request, status: int, code: str) -> bytes:
    body = b"" if request.method == "HEAD" else f"<Error><Code>{code}</Code><Message>by plan</Message></Error>".encode()
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    return _wire(status, code, headers, body)


def _cut(answer: bytes) -> bytes:
    """Without the end of its body, or without its last header."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return answer[:-7] if len(body) > 7 else head[: head.rindex(b"\r\n")]


def _wire(status: int, reason: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status} {reason}\r\n{head}\r\n".encode("latin-1") + body


class _Hurried:
    """In the place of `time`, where a client only waits before it tries again."""

    @staticmethod
    def sleep(seconds: float) -> None: ...


@contextmanager
def impatient() -> Iterator[None]:
    """Retries follow each other at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.endpoint.time", _Hurried)
        patch.setattr("fluxforge.files.s3_bucket.time", _Hurried)
        yield
