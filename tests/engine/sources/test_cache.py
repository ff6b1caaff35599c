from __future__ import annotations

from pathlib import Path

import pytest

from shoal.engine.sources.cache import exclusive
from shoal.engine.sources.progress import NoProgress
from shoal.errors import DownloadFailed


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
