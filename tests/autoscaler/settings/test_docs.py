"""Every policy in the documentation is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from shoal.autoscaler.settings.load import of_spec, parse_spec, read_policies

DOCS = Path(__file__).parents[3] / "docs"
BLOCK = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
POLICIES = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in sorted(DOCS.glob("*.md"))
    for number, block in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
    if "kind: ScalingPolicy" in block
]


def test_there_are_some() -> None:
    assert len(POLICIES) >= 2


@pytest.mark.parametrize("block", POLICIES)
def test_a_policy(block: str, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(block, encoding="utf-8")
    assert read_policies(file)


def test_the_values_that_are_called_defaults_are() -> None:
    """The first policy of autoscaling.md shows each default; what is left out is the same."""
    block = next(b.values[0] for b in POLICIES if b.id == "autoscaling-0")
    shown = yaml.safe_load(block)["spec"]
    least = of_spec(parse_spec(f"model: {shown['model']}", "test"), name="a").policy
    for section in ("slo", "pace", "forecast"):
        with_it = of_spec(
            parse_spec(yaml.safe_dump({"model": shown["model"], section: shown[section]}), "test"),
            name="a",
        )
        assert with_it.policy == least, section
    assert shown["intervalSeconds"] == least.interval_s
