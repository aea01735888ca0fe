"""REST answers as they come to ccxt, on their way to `market.wire`.

Nothing is captured that only an account may see, nor how it was asked for. Which requests are an account's own is in
ccxt's `sign` alone, and different for every exchange: so where credentials are configured each request is signed once
more without them, and only one that comes out the same is public.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import ccxt.pro
import yarl

Answered = Callable[[str, str], None]


class RestTap:
    """Tells `answered(about, body)` of every answer to a public request of one exchange instance.

    `about` is the request's path and query, behind which the body of a POST stands; `body` is the answer's text.
    """

    def __init__(self, exchange: Any, answered: Answered) -> None:
        self._exchange, self._answered = exchange, answered
        self._credentials = list(exchange.requiredCredentials)
        self._sign, self._on_response = exchange.sign, exchange.on_rest_response
        self._public: ContextVar[bool] = ContextVar("public", default=False)
        exchange.sign, exchange.on_rest_response = self._signed, self._response

    def _signed(self, *arguments: Any, **keywords: Any) -> Any:
        """ccxt fetches what this returns in the same task, and nothing else before."""
        request = self._sign(*arguments, **keywords)
        known = any(getattr(self._exchange, name, None) for name in self._credentials)
        self._public.set(not known or request == self._unsigned(*arguments, **keywords))
        return request

    def _unsigned(self, *arguments: Any, **keywords: Any) -> Any:
        """The request without credentials; None where it cannot be made so."""
        exchange = self._exchange
        kept = {name: getattr(exchange, name, None) for name in self._credentials}
        try:
            for name in kept:
                setattr(exchange, name, None)
            return self._sign(*arguments, **keywords)
        except (ccxt.BaseError, TypeError, ValueError, LookupError, AttributeError):
            return None
        finally:
            for name, value in kept.items():
                setattr(exchange, name, value)

    def _response(
        self, code: int, reason: str, url: str, method: str, headers: Any, body: str, asked_headers: Any, asked: Any
    ) -> Any:
        if self._public.get():
            self._public.set(False)
            about = yarl.URL(url, encoded=True).path_qs
            self._answered(f"{about} {asked}" if asked else about, body)
        return self._on_response(code, reason, url, method, headers, body, asked_headers, asked)
