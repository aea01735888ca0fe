"""What a service answers over HTTP: `/metrics`, `/livez` and `/readyz`.

The two are answered 200 `ok` or 503 with the reason: see `fluxforge.condition`.
"""

from __future__ import annotations

import errno
import socket
import threading
from http.server import BaseHTTPRequestHandler
from importlib.metadata import version
from socketserver import ThreadingTCPServer

from prometheus_client import REGISTRY, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from fluxforge import condition, metrics
from fluxforge.errors import PortInUse


class _Answers(BaseHTTPRequestHandler):
    timeout = 10  # s; a client that says nothing keeps no thread

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, content_type, encode(REGISTRY))
        elif path == "/livez":
            self._condition(condition.PROCESS.stalled)
        elif path == "/readyz":
            self._condition(condition.PROCESS.unready)
        else:
            self._answer(404, "text/plain; charset=utf-8", b"/metrics, /livez, /readyz\n")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """A scrape is nothing to log."""

    def _condition(self, trouble: str) -> None:
        self._answer(503 if trouble else 200, "text/plain; charset=utf-8", f"{trouble or 'ok'}\n".encode())

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


def serve(service: str, host: str, port: int) -> int:
    """Serve on a thread and return the port (another than given where that is 0). Raises PortInUse."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, of no use to Prometheus
    metrics.BUILD.info({"service": service, "version": version("fluxforge")})
    metrics.READY.set_function(lambda: not condition.PROCESS.unready)
    metrics.TURN_AGE.set_function(lambda: condition.PROCESS.age)
    try:
        server = (_Server6 if ":" in host else _Server)((host, port), _Answers)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise PortInUse(
                f"metrics: {host}:{port} cannot be listened on: {error.strerror}",
                hint="set metrics.port, or --metrics-port N (0 takes a free one, off serves none)",
            ) from None
        raise
    threading.Thread(target=server.serve_forever, name="endpoint", daemon=True).start()
    return int(server.server_address[1])
