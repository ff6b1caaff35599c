from __future__ import annotations

import base64
import hmac
import json
from hashlib import sha256
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shoal.errors import Unauthorized
from shoal.router.access.jwks import SigningKeys
from shoal.router.access.jwt import LEEWAY_S, MAX_TOKEN_BYTES, SigningKeyUnknown, TokenVerifier
from shoal.router.access.principal import Principal
from shoal.router.settings.access import JWTConfig
from shoal.router.settings.protection import LimitsConfig
from tests.router.access.identity_provider import (
    AUDIENCE,
    EC_KEY,
    ED_KEY,
    ISSUER,
    NOW,
    OTHER_RSA_KEY,
    RSA_KEY,
    claims,
    public_jwk,
    token,
)


def make_verifier(
    *jwks: dict[str, Any], max_remembered: int = 100, **settings: Any
) -> TokenVerifier:
    """A verifier whose keys have been fetched."""
    config = JWTConfig(
        jwks_url="https://id.example/jwks", issuer=ISSUER, audience=AUDIENCE, **settings
    )
    keys = SigningKeys(config.jwks_url, config.algorithms)
    listed = jwks or (public_jwk(RSA_KEY, "one"), public_jwk(EC_KEY, "two"))
    keys.replace({"keys": list(listed)})
    return TokenVerifier(
        config,
        keys=keys,
        max_remembered=max_remembered,
        limits=LimitsConfig(requests_per_minute=60, tokens_per_minute=1000),
    )


def verify(verifier: TokenVerifier, bearer: bytes, now: float = NOW) -> Principal:
    return verifier.verify(bearer, sha256(bearer).digest(), now)


def refusal(verifier: TokenVerifier, bearer: bytes, now: float = NOW) -> str:
    with pytest.raises(Unauthorized) as raised:
        verify(verifier, bearer, now)
    assert raised.value.code == "invalid_token"
    return str(raised.value)


def forged(header: dict[str, Any], secret: bytes | None) -> bytes:
    """A token as an attacker writes it: libraries refuse to."""

    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    message = part(json.dumps(header).encode()) + b"." + part(json.dumps(claims()).encode())
    signature = b"" if secret is None else hmac.digest(secret, message, "sha256")
    return message + b"." + part(signature)


def test_a_good_token_is_a_principal() -> None:
    assert verify(make_verifier(), token()) == Principal(
        "jwt:alice", "alice", None, requests_per_minute=60, tokens_per_minute=1000
    )


@pytest.mark.parametrize(
    ("key", "algorithm", "jwk"),
    [
        (RSA_KEY, "RS256", public_jwk(RSA_KEY, "one")),
        (RSA_KEY, "PS512", public_jwk(RSA_KEY, "one", use="sig")),
        (EC_KEY, "ES256", public_jwk(EC_KEY, "one", alg="ES256")),
        (ED_KEY, "EdDSA", public_jwk(ED_KEY, "one")),
    ],
)
def test_algorithms(key: Any, algorithm: str, jwk: dict[str, Any]) -> None:
    verifier = make_verifier(jwk, algorithms=(algorithm,))
    assert verify(verifier, token(key, algorithm)).tenant == "alice"


def test_claims_name_tenant_and_models() -> None:
    verifier = make_verifier(tenant_claim="org", models_claim="models")
    principal = verify(verifier, token(org="sales", models=["llama"]))
    assert principal[:3] == ("jwt:alice", "sales", frozenset({"llama"}))


def test_a_token_without_a_subject_is_known_by_its_tenant() -> None:
    verifier = make_verifier(tenant_claim="org")
    assert verify(verifier, token(org="sales", sub=None)).key_id == "jwt:sales"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sub": None}, "'sub'"),
        ({"sub": ""}, "1 to 128 printable"),
        ({"sub": "a\x1b[2J"}, "1 to 128 printable"),
        ({"exp": None}, "'exp'"),
        ({"exp": "soon"}, "'exp'"),
        ({"exp": True}, "'exp'"),
        ({"nbf": "x"}, "'nbf'"),
        ({"aud": None}, "'aud'"),
        ({"aud": "another"}, "another audience"),
        ({"aud": ["another"]}, "another audience"),
        ({"iss": None}, "'iss'"),
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"exp": NOW - LEEWAY_S}, "expired"),
        ({"nbf": NOW + LEEWAY_S + 1}, "not valid yet"),
    ],
)
def test_bad_claims(changed: dict[str, Any], said: str) -> None:
    assert said in refusal(make_verifier(), token(**changed))


def test_clocks_may_differ_a_little() -> None:
    verify(make_verifier(), token(exp=NOW - LEEWAY_S + 1))
    verify(make_verifier(), token(nbf=NOW + LEEWAY_S))
    verify(make_verifier(), token(aud=[AUDIENCE, "another"]))


def test_a_missing_list_of_models_does_not_open_all() -> None:
    verifier = make_verifier(models_claim="models")
    assert "'models'" in refusal(verifier, token())
    assert "'models'" in refusal(verifier, token(models="llama"))
    assert verify(verifier, token(models=[])).models == frozenset()


def test_alg_none_is_refused() -> None:
    for name in ("none", "None", "NONE"):
        assert "signed by" in refusal(make_verifier(), forged({"alg": name, "kid": "one"}, None))


def test_a_public_key_is_never_a_shared_secret() -> None:
    for form in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1):
        secret = RSA_KEY.public_key().public_bytes(Encoding.PEM, form)
        bearer = forged({"alg": "HS256", "kid": "one"}, secret)
        assert "signed by" in refusal(make_verifier(), bearer)


def test_a_shared_secret_in_the_jwks_is_not_used() -> None:
    secret = b"s" * 32
    oct_jwk = {"kty": "oct", "kid": "secret", "k": base64.urlsafe_b64encode(secret).decode()}
    verifier = make_verifier(public_jwk(RSA_KEY, "one"), oct_jwk)
    for algorithm in ("HS256", "RS256"):
        refusal(verifier, forged({"alg": algorithm, "kid": "secret"}, secret))


def test_a_key_is_bound_to_its_algorithm() -> None:
    verifier = make_verifier(
        public_jwk(RSA_KEY, "one", alg="PS256"), algorithms=("RS256", "PS256", "ES256")
    )
    assert verify(verifier, token(algorithm="PS256"))
    refusal(verifier, token(algorithm="RS256"))
    # The header says one kind of key, the kid another.
    refusal(verifier, token(EC_KEY, "ES256"))


@pytest.mark.parametrize(
    "jwk",
    [
        public_jwk(RSA_KEY, "bad", use="enc"),
        public_jwk(rsa.generate_private_key(65537, 1024), "bad"),
        public_jwk(ec.generate_private_key(ec.SECP384R1()), "bad"),
        {"kty": "RSA", "kid": "bad", "n": "AQAB"},
        {"kty": "RSA", "kid": "bad", "n": 5, "e": "AQAB"},
        "a string",
    ],
)
def test_keys_that_cannot_be_used_are_passed_over(jwk: Any) -> None:
    verifier = make_verifier(jwk, public_jwk(RSA_KEY, "one"))
    assert verifier.keys.find("bad", "RS256") is None
    assert verifier.keys.find("bad", "ES256") is None
    verify(verifier, token())


def test_wrong_signatures() -> None:
    assert "signature" in refusal(make_verifier(), token(OTHER_RSA_KEY))
    head, body, signature = token().split(b".")
    other = token(sub="mallory").split(b".")[1]
    assert "signature" in refusal(make_verifier(), b".".join((head, other, signature)))
    assert body != other


@pytest.mark.parametrize(
    "bearer", [b"..", b"a.b.c", b"\xff.\xff.\xff", b"e30.e30.e30", b"bnVsbA.e30.", b"W10.e30.x"]
)
def test_what_is_no_token_is_refused(bearer: bytes) -> None:
    refusal(make_verifier(), bearer)


def test_a_long_token_is_not_looked_at() -> None:
    assert "longer" in refusal(make_verifier(), token(more="x" * MAX_TOKEN_BYTES))


def test_extensions_that_must_be_understood_are_not() -> None:
    refusal(make_verifier(), token(headers={"crit": ["b64"], "b64": True}))


def test_a_token_that_names_no_key_fits_the_only_one() -> None:
    verify(make_verifier(public_jwk(RSA_KEY, "any")), token(kid=None))
    verify(make_verifier(public_jwk(RSA_KEY)), token(kid=None))
    with pytest.raises(SigningKeyUnknown):
        verify(make_verifier(public_jwk(RSA_KEY), public_jwk(OTHER_RSA_KEY)), token(kid=None))


def test_a_key_is_not_found_by_the_name_it_has_not() -> None:
    with pytest.raises(SigningKeyUnknown):
        verify(make_verifier(public_jwk(RSA_KEY)), token(kid="\x000"))


def test_a_remembered_token_costs_no_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = make_verifier()
    first = verify(verifier, token())
    monkeypatch.setattr(jwt, "decode", None)
    assert verify(verifier, token()) is first


def test_a_remembered_token_expires() -> None:
    verifier = make_verifier()
    verify(verifier, token())
    assert "expired" in refusal(verifier, token(), NOW + 600 + LEEWAY_S)
    assert "expired" in refusal(verifier, token(), NOW + 600 + LEEWAY_S)


def test_the_memory_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = make_verifier(max_remembered=2)
    one, two, three = (token(sub=name) for name in ("one", "two", "three"))
    for bearer in (one, two, one, three):
        verify(verifier, bearer)
    checked = []
    decode = jwt.decode

    def noted(bearer: bytes, *arguments: Any, **options: Any) -> Any:
        checked.append(bearer)
        return decode(bearer, *arguments, **options)

    monkeypatch.setattr(jwt, "decode", noted)
    for bearer in (one, three, two):
        verify(verifier, bearer)
    assert checked == [two]


def test_a_withdrawn_key_takes_its_tokens_along() -> None:
    verifier = make_verifier()
    verify(verifier, token())
    verifier.keys.replace({"keys": [public_jwk(OTHER_RSA_KEY, "three")]})
    with pytest.raises(SigningKeyUnknown):
        verify(verifier, token())


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("https://id.example/jwks", True),
        ("http://127.0.0.1:9/jwks", True),
        ("http://[::1]/jwks", True),
        ("http://localhost/jwks", True),
        ("http://id.example/jwks", False),
        ("http://localhost.evil.example/jwks", False),
        ("http://127.0.0.1@evil.example/jwks", False),
    ],
)
def test_keys_come_over_https(url: str, is_allowed: bool) -> None:
    if is_allowed:
        JWTConfig(jwks_url=url, issuer=ISSUER, audience=AUDIENCE)
    else:
        with pytest.raises(ValueError, match="https"):
            JWTConfig(jwks_url=url, issuer=ISSUER, audience=AUDIENCE)
