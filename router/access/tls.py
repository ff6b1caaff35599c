"""TLS contexts: TLS 1.2 and later, certificates read again on a reload.

A reload replaces the whole context behind `ReloadableContext`, so that a removed client CA is no
longer trusted; connections that are open keep what they have.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Self

from shoal.errors import ConfigError

from ..settings.listen import TLSConfig, UpstreamConfig


class ReloadableContext(ssl.SSLContext):
    """Give it to asyncio or uvloop once; each new connection takes the newest certificates."""

    _load: Callable[[], ssl.SSLContext]
    _current: ssl.SSLContext

    def __new__(cls, load: Callable[[], ssl.SSLContext]) -> Self:
        current = load()
        self = super().__new__(cls, current.protocol)
        self._load = load
        self._current = current
        return self

    def reload(self) -> None:
        """Read the files again. Raises ConfigError, and then the old ones stay in use."""
        self._current = self._load()

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self._current.wrap_bio(*args, **kwargs)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        return self._current.wrap_socket(*args, **kwargs)


def server_context(tls: TLSConfig) -> ReloadableContext:
    """For clients of the router. Raises ConfigError that names the file which is wrong."""

    def load() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _harden(context)
        _load_certificate(context, tls.certificate, tls.key)
        if tls.client_ca is not None:
            _load_ca(context, tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    return ReloadableContext(load)


def client_context(upstream: UpstreamConfig) -> ReloadableContext:
    """For https workers: their certificate and host name are always checked.

    Raises ConfigError that names the file which is wrong.
    """

    def load() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _harden(context)
        if upstream.ca is not None:
            _load_ca(context, upstream.ca)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if upstream.client_certificate is not None and upstream.client_key is not None:
            _load_certificate(context, upstream.client_certificate, upstream.client_key)
        return context

    return ReloadableContext(load)


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    def no_password() -> str:
        raise ConfigError(f"TLS: the key {key} has a password; the router needs one without")

    try:
        context.load_cert_chain(certificate, key, password=no_password)
    except OSError as error:
        raise ConfigError(
            f"TLS: cannot use the certificate {certificate} with the key {key}: {error}"
        ) from None


def _load_ca(context: ssl.SSLContext, file: str) -> None:
    try:
        context.load_verify_locations(cafile=file)
    except OSError as error:
        raise ConfigError(f"TLS: cannot use the CA file {file}: {error}") from None
