from __future__ import annotations

import pytest

from shoal.errors import Forbidden
from shoal.router.access.principal import ANONYMOUS, Principal, require_model


def test_a_principal_without_a_list_may_use_every_model() -> None:
    require_model(ANONYMOUS, "anything")


def test_a_principal_with_a_list_may_use_no_other_model() -> None:
    principal = Principal("k", "t", frozenset({"b", "a"}))
    require_model(principal, "a")
    with pytest.raises(Forbidden, match=r"'c'.*a, b") as raised:
        require_model(principal, "c")
    assert raised.value.status == 403
    assert raised.value.param == "model"


def test_a_long_name_is_not_echoed_whole() -> None:
    with pytest.raises(Forbidden) as raised:
        require_model(Principal("k", "t", frozenset()), "x" * 10_000)
    assert len(str(raised.value)) < 400
