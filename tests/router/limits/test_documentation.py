"""The examples of docs/flow-control.md are configurations, and those called defaults are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from shoal.router.settings.config import RouterConfig

PAGE = Path(__file__).parents[3] / "docs" / "flow-control.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
NOT_DEFAULT = ("limits", "models")


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_valid_and_show_the_defaults(example: str) -> None:
    shown = yaml.safe_load(example)
    config = msgspec.to_builtins(msgspec.convert(shown, RouterConfig))
    defaults: dict[str, Any] = msgspec.to_builtins(RouterConfig())
    for section in shown:
        assert (config[section] == defaults[section]) == (section not in NOT_DEFAULT)
