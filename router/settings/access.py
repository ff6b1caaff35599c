"""Who may ask, and what is written down about it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from shoal.settings.ranges import HttpUrl, Money, Ratio, Text

SigningAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class JWTConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bearer tokens of an identity provider."""

    jwks_url: HttpUrl
    issuer: Text
    audience: Text
    tenant_claim: Text = "sub"
    models_claim: Text | None = None
    """A claim with the list of models the bearer may use; none: all."""
    algorithms: tuple[SigningAlgorithm, ...] = ("RS256", "ES256")
    """Signatures with a public key alone: a shared secret could be mistaken for one."""

    def __post_init__(self) -> None:
        if not self.jwks_url.startswith("https:") and not is_loopback_url(self.jwks_url):
            raise ValueError(
                f"jwks_url must be https, got {self.jwks_url}: whoever can change the keys on the "
                "way can make tokens (http is for loopback hosts alone)"
            )
        if not self.algorithms:
            raise ValueError("algorithms must name at least one")


def is_loopback_url(url: str) -> bool:
    """Whether it leads to this machine alone; names other than localhost count as no."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class AuthConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Nothing here: the API is open, and then only a loopback host is allowed."""

    keys_file: Text | None = None
    """YAML list of keys, hashed: `shoal keys add` writes it."""
    jwt: JWTConfig | None = None


class PriceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Per million tokens, in the currency of the fleet's accounts."""

    prompt: Money = 0.0
    cached: Money = 0.0
    completion: Money = 0.0


class TelemetryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Logs, usage, traces."""

    access_log: Text | None = "-"
    """File with one JSON object a request; "-": stderr; null: none."""
    usage_log: Text | None = None
    """File with one JSON object of token counts a request, for billing."""
    otlp_endpoint: HttpUrl | None = None
    """OpenTelemetry collector, OTLP over HTTP: http://127.0.0.1:4318."""
    trace_ratio: Ratio = 0.01
    """Share of requests traced when the client's traceparent does not say."""
    prices: dict[str, PriceConfig] = {}
    """By model name."""
