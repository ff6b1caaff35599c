from __future__ import annotations

import pytest

from shoal.errors import ConfigError, Unauthorized
from shoal.router.access.authenticator import Authenticator
from shoal.router.access.keys import key_digest
from shoal.router.access.principal import ANONYMOUS
from shoal.router.settings.access import AuthConfig
from shoal.router.settings.protection import LimitsConfig

KEYS = f"- {{name: team-a, sha256: {key_digest('sk-a')}}}".encode()
WITH_KEYS = AuthConfig(keys_file="keys.yaml")


@pytest.mark.parametrize(
    ("authorization", "x_api_key"),
    [
        (b"Bearer sk-a", None),
        (b"bearer sk-a", None),
        (b"BEARER   sk-a ", None),
        (None, b"sk-a"),
        (b"Basic eDp5", b"sk-a"),
        (b"Bearer sk-a", b"wrong"),
    ],
)
def test_a_known_key(authorization: bytes | None, x_api_key: bytes | None) -> None:
    authenticator = Authenticator.from_config(WITH_KEYS, KEYS)
    assert authenticator.authenticate(authorization, x_api_key, 0.0).key_id == "team-a"


@pytest.mark.parametrize(
    ("authorization", "x_api_key"),
    [
        (None, None),
        (b"", None),
        (b"Bearer", None),
        (b"Bearer ", None),
        (b"Bearer sk-b", None),
        (b"Bearer sk-a sk-a", None),
        (b"Bearersk-a", None),
        (b"sk-a", None),
        (b"Basic c2stYQ==", None),
        (None, b""),
        (None, b"sk-b"),
        (b"Bearer a.b.c", None),
        (b"Bearer " + key_digest("sk-a").encode(), None),
    ],
)
def test_everything_else_is_refused(authorization: bytes | None, x_api_key: bytes | None) -> None:
    authenticator = Authenticator.from_config(WITH_KEYS, KEYS)
    with pytest.raises(Unauthorized) as raised:
        authenticator.authenticate(authorization, x_api_key, 0.0)
    assert "sk-" not in str(raised.value)


def test_a_file_without_keys_lets_nobody_in() -> None:
    authenticator = Authenticator.from_config(WITH_KEYS, b"")
    with pytest.raises(Unauthorized):
        authenticator.authenticate(None, None, 0.0)


def test_without_settings_everybody_is_anonymous() -> None:
    authenticator = Authenticator.from_config(AuthConfig(), b"")
    assert authenticator.authenticate(None, None, 0.0) == ANONYMOUS
    assert authenticator.authenticate(b"Bearer whatever", None, 0.0) == ANONYMOUS


def test_limits_of_the_configuration_hold_for_the_anonymous() -> None:
    authenticator = Authenticator.from_config(
        AuthConfig(), b"", limits=LimitsConfig(requests_per_minute=7)
    )
    assert authenticator.authenticate(None, None, 0.0).requests_per_minute == 7


def test_wrong_keys_are_an_error_at_once() -> None:
    with pytest.raises(ConfigError, match="entry 1"):
        Authenticator.from_config(WITH_KEYS, b"- {name: a}")


async def test_without_tokens_there_is_nothing_to_run() -> None:
    authenticator = Authenticator.from_config(WITH_KEYS, KEYS)
    await authenticator.run()
    await authenticator.refresh_signing_keys()
