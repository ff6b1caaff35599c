from __future__ import annotations

from pathlib import Path

import pytest

from shoal.engine.sources.cache import cache_home, exclusive
from shoal.engine.sources.progress import NoProgress
from shoal.errors import DownloadFailed


@pytest.mark.parametrize(
    ("environ", "home"),
    [
        ({"SHOAL_CACHE": "/models", "XDG_CACHE_HOME": "/xdg"}, Path("/models")),
        ({"SHOAL_CACHE": "~/models"}, Path.home() / "models"),
        ({"XDG_CACHE_HOME": "/xdg"}, Path("/xdg/shoal")),
        ({"SHOAL_CACHE": ""}, Path.home() / ".cache" / "shoal"),
    ],
)
def test_where_models_are_kept(environ: dict[str, str], home: Path) -> None:
    assert cache_home(environ) == home


def test_a_lock_keeps_others_out_until_it_is_released(tmp_path: Path) -> None:
    lock = tmp_path / "below" / ".lock"
    with (
        exclusive(lock, timeout_s=1, progress=NoProgress()),
        pytest.raises(DownloadFailed, match=f"it holds {lock}"),
        exclusive(lock, timeout_s=0.0, progress=NoProgress()),
    ):
        pytest.fail("both hold the lock")
    with exclusive(lock, timeout_s=0.0, progress=NoProgress()):
        pass
