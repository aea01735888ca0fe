"""Tokens are signed with the user's key, and the key is never shown."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64decode

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from collector.jwt import Signer
from collector.venues import venue_of
from collector.venues.coinbase import Coinbase
from fluxforge.errors import ConfigError
from fluxforge.settings import CoinbaseExchange

NAME = "organizations/o/apiKeys/k"
NOW = 1_700_000_000_500_000_000


def decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def check_claims(token: str, algorithm: str) -> tuple[bytes, bytes]:
    """The signed text and its signature."""
    assert "=" not in token
    head, claims, signature = token.split(".")
    found = json.loads(decoded(head))
    assert (found["alg"], found["typ"], found["kid"]) == (algorithm, "JWT", NAME)
    assert found["nonce"]
    assert json.loads(decoded(claims)) == {"sub": NAME, "iss": "cdp", "nbf": 1_700_000_000, "exp": 1_700_000_120}
    return f"{head}.{claims}".encode(), decoded(signature)


def test_an_ec_key_signs_es256():
    key = generate_private_key(SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    for secret in (pem, pem.replace("\n", "\\n")):
        text, signature = check_claims(Signer(NAME, secret).token(NOW), "ES256")
        assert len(signature) == 64
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        key.public_key().verify(encode_dss_signature(r, s), text, ECDSA(SHA256()))
        with pytest.raises(InvalidSignature):
            key.public_key().verify(encode_dss_signature(r, s), text + b"x", ECDSA(SHA256()))


def test_an_ed25519_key_signs_eddsa():
    key = Ed25519PrivateKey.generate()
    seed = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for secret in (b64encode(seed + public).decode(), b64encode(seed).decode(), pem):
        text, signature = check_claims(Signer(NAME, secret).token(NOW), "EdDSA")
        key.public_key().verify(signature, text)


def test_two_tokens_are_never_alike():
    signer = Signer(NAME, b64encode(bytes(64)).decode())
    assert signer.token(NOW) != signer.token(NOW)
    assert repr(signer) == f"Signer({NAME!r})"


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "hunter2-hunter2",
        b64encode(b"too short").decode(),
        f"!{b64encode(bytes(64)).decode()}",
        "-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----",
        generate_private_key(SECP384R1())
        .private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        .decode(),
    ],
)
def test_a_bad_key_is_refused_without_being_shown(secret: str):
    with pytest.raises(ConfigError, match=r"coinbase\.secret") as caught:
        Signer(NAME, secret)
    assert "hunter2" not in f"{caught.value!r}{caught.value.__cause__!r}{caught.value.__context__!r}"


def test_every_message_has_a_token_where_a_key_is_configured():
    section = CoinbaseExchange(symbols=("BTC-USD",), api_key=NAME, secret=b64encode(bytes(64)).decode())
    venue = venue_of("coinbase", section)
    requests = venue.subscribe(["BTC-USD"], ["orderbook", "trades"])
    assert [request.body["channel"] for request in requests] == ["heartbeats", "level2", "market_trades"]
    tokens = {json.loads(venue.text(request, NOW))["jwt"] for request in requests}
    assert len(tokens) == 3
    assert isinstance(venue, Coinbase)
    assert "AAAA" not in repr(vars(venue))
    public = venue_of("coinbase", CoinbaseExchange(symbols=("BTC-USD",)))
    assert "jwt" not in json.loads(public.text(requests[0], NOW))


def test_channels_may_have_coinbases_names():
    section = CoinbaseExchange(symbols=("BTC-USD",), channels=["level2", "market_trades", "ticker"])
    assert section.channels == ("orderbook", "trades", "ticker")
