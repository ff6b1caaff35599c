from __future__ import annotations

from pathlib import Path

import pytest

from shoal.cache_home import cache_home


@pytest.mark.parametrize(
    ("environ", "home"),
    [
        ({"SHOAL_CACHE": "/models", "XDG_CACHE_HOME": "/xdg"}, Path("/models")),
        ({"SHOAL_CACHE": "~/models"}, Path.home() / "models"),
        ({"XDG_CACHE_HOME": "/xdg"}, Path("/xdg/shoal")),
        ({"SHOAL_CACHE": ""}, Path.home() / ".cache" / "shoal"),
    ],
)
def test_where_things_are_kept(environ: dict[str, str], home: Path) -> None:
    assert cache_home(environ) == home
