"""Who may use an admin API: bearers of its keys, or, when it has none, programs on this machine.

A browser is a program on this machine too, and runs other people's pages. So an admin API without
keys takes no request that a page of another origin made (`Origin` or `Sec-Fetch-Site` say so; those
of the console's own page pass), and none for a host name that is not this machine's (DNS
rebinding).
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from shoal.errors import Forbidden, Unauthorized

OPEN_PATHS = frozenset({"/health", "/ready", "/metrics"})
"""For kubelets and Prometheus, which carry no key. They show counts, never contents."""


class AdminAuth:
    """ASGI middleware. Raises Unauthorized or Forbidden."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Callable[[], tuple[str, ...]],
        keys_setting: str,
        open_paths: frozenset[str] = frozenset(),
    ) -> None:
        """`keys` is asked each time: a reload may change them; people set them by `keys_setting`.
        `open_paths` are more of those that need none."""
        self._app = app
        self._keys = keys
        self._keys_setting = keys_setting
        self._open_paths = OPEN_PATHS | open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open_paths:
            headers = dict(scope["headers"])
            if keys := self._keys():
                self._check_key(headers.get(b"authorization", b""), keys)
            else:
                self._check_origin(headers)
        await self._app(scope, receive, send)

    def _check_key(self, header: bytes, keys: tuple[str, ...]) -> None:
        scheme, _, token = header.partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not token:
            raise Unauthorized("No admin key. Send it as a header: 'Authorization: Bearer KEY'.")
        # Every key is compared, in constant time each: how long it takes tells nothing.
        if not sum(hmac.compare_digest(token, key.encode()) for key in keys):
            raise Unauthorized(f"The key is not one of {self._keys_setting}.")

    def _check_origin(self, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"localhost")
        origin = headers.get(b"origin", b"http://" + host)
        site = headers.get(b"sec-fetch-site", b"none")
        if origin != b"http://" + host or site not in (b"none", b"same-origin"):
            raise Forbidden(
                "The admin API without keys takes no requests from web pages of others; "
                f"set {self._keys_setting} and send a key."
            )
        name = _host_name(host.decode("latin-1"))
        if not is_loopback(name):
            raise Forbidden(f"The admin API without keys is for localhost, not for {name!r}.")


def _host_name(host: str) -> str:
    """Without the port."""
    if host.startswith("["):
        return host.partition("]")[0].lstrip("[")
    return host.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it. A name other than localhost counts as not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
