from __future__ import annotations

import json
from pathlib import Path

from shoal.router.telemetry.usage_log import UsageEntry, open_usage_log


def test_a_line_a_request(tmp_path: Path) -> None:
    file = tmp_path / "usage.log"
    log = open_usage_log(str(file))
    log.append(UsageEntry(1.5, "team-a", "sales", "lla\nma", 100, 60, 7, 0.1 + 0.2, b"r-\xff"))
    log.close()
    (line,) = file.read_text().splitlines()
    assert json.loads(line) == {
        "ts": 1.5,
        "key_id": "team-a",
        "tenant": "sales",
        "model": "lla\\nma",
        "prompt": 100,
        "cached": 60,
        "completion": 7,
        "cost": 0.3,
        "request_id": "r-\\xff",
    }
