"""WebSocket frames (RFC 6455, 5.2), built whole, so that one encoding serves every subscriber."""

from __future__ import annotations

import struct

_LONG = struct.Struct("!BBQ")
_SHORT = struct.Struct("!BBH")
_FIN_TEXT, _FIN_PING = 0x81, 0x89


def text_frame(payload: bytes) -> bytes:
    """A whole unmasked text frame."""
    size = len(payload)
    if size < 126:
        return bytes((_FIN_TEXT, size)) + payload
    if size < 65536:
        return _SHORT.pack(_FIN_TEXT, 126, size) + payload
    return _LONG.pack(_FIN_TEXT, 127, size) + payload


def ping_frame(payload: bytes) -> bytes:
    """A ping of at most 125 bytes."""
    return bytes((_FIN_PING, len(payload))) + payload
