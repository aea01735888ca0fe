"""Who may ask: browsers of this page, by names that cannot be turned against it.

A page of another site could point a name of its own at this machine (DNS rebinding) or open a socket to it. So a
request is answered only under `localhost`, an IP address or a name of `dashboard.hosts`, and a socket only to a page
that came from here. Nothing of a page is fetched from elsewhere, and nothing in it runs that is not a file of ours.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""plotly.js writes style attributes; nothing but files of ours runs."""
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def known_host(given: str, hosts: Collection[str]) -> bool:
    """Whether a Host header names us: an IP address cannot be rebound."""
    try:
        name = urlsplit(f"//{given}").hostname
    except ValueError:
        return False
    if name is None:
        return False
    if name == "localhost" or name in {host.lower() for host in hosts}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def same_origin(origin: str | None, host: str) -> bool:
    """Whether a page from `origin` is ours. Who sends none is no page."""
    return origin is None or urlsplit(origin).netloc == host


def guard(hosts: Collection[str]) -> Middleware:
    """The middleware."""

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not known_host(request.host, hosts):
            return _refused(f"this page is not known as {request.host[:80]!r}: name it in dashboard.hosts")
        if not same_origin(request.headers.get("Origin"), request.host):
            return _refused("asked by a page of another site")
        return await handler(request)

    return checked


async def harden(_request: web.Request, response: web.StreamResponse) -> None:
    """Headers of every answer."""
    response.headers.update(HEADERS)


def _refused(told: str) -> web.Response:
    return web.Response(status=403, text=f"{told}\n")
