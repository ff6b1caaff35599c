from __future__ import annotations

import pytest

from shoal.autoscaler.settings.router_key import router_key
from shoal.errors import ConfigError


def test_a_router_without_a_key() -> None:
    assert router_key(None, {"SHOAL_ROUTER_KEY": "secret"}) is None


def test_the_line_end_of_a_secret_is_no_part_of_it() -> None:
    assert router_key("SHOAL_ROUTER_KEY", {"SHOAL_ROUTER_KEY": "secret\n"}) == "secret"


@pytest.mark.parametrize("environ", [{}, {"SHOAL_ROUTER_KEY": " \n"}])
def test_a_key_that_is_named_must_be_there(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"keyEnv: the autoscaler has no variable SHOAL_ROUTER"):
        router_key("SHOAL_ROUTER_KEY", environ)
