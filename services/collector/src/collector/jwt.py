"""Tokens that Coinbase's sockets take: JWT signed with a key of the Coinbase Developer Platform.

Source: Coinbase Developer Documentation, "WebSocket Authentication" and "JWT Authentication"; RFC 7515, RFC 7518 §3.4
(ES256: r and s, 32 bytes each), RFC 8037 (EdDSA).
"""

from __future__ import annotations

import json
from base64 import b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from os import urandom
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fluxforge.clock import NS
from fluxforge.errors import ConfigError

LIFE_S = 120


class Signer:
    """Signs with the key `name`.

    secret  PEM of an EC key on P-256 (newlines may be written \\n), or seed and public key of Ed25519 in base64

    Raises ConfigError, which does not show the secret.
    """

    def __init__(self, name: str, secret: str) -> None:
        self._name = name
        self._key = _load(secret)

    def token(self, now: int) -> str:
        """A token that lives from `now` (ns) for two minutes."""
        issued = now // NS
        algorithm = "ES256" if isinstance(self._key, EllipticCurvePrivateKey) else "EdDSA"
        head = {"alg": algorithm, "typ": "JWT", "kid": self._name, "nonce": urandom(16).hex()}
        claims = {"sub": self._name, "iss": "cdp", "nbf": issued, "exp": issued + LIFE_S}
        signed = f"{_encode(json.dumps(head).encode())}.{_encode(json.dumps(claims).encode())}"
        return f"{signed}.{_encode(self._sign(signed.encode()))}"

    def __repr__(self) -> str:
        return f"Signer({self._name!r})"

    def _sign(self, data: bytes) -> bytes:
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(data)
        r, s = decode_dss_signature(self._key.sign(data, ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _load(secret: str) -> EllipticCurvePrivateKey | Ed25519PrivateKey:
    text = secret.strip().replace("\\n", "\n")
    try:
        if text.startswith("-----BEGIN"):
            key: Any = load_pem_private_key(text.encode(), None)
            if isinstance(key, Ed25519PrivateKey) or (
                isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)
            ):
                return key
        else:
            raw = b64decode(text, validate=True)
            if len(raw) in {32, 64}:
                return Ed25519PrivateKey.from_private_bytes(raw[:32])
    except (ValueError, TypeError, Base64Error):
        pass
    raise ConfigError(
        "coinbase.secret is no key", hint="expected a PEM private key on the curve P-256, or Ed25519 in PEM or base64"
    )


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
