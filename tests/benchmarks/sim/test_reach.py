from __future__ import annotations

import pytest

from shoal.benchmarks.sim.fleet import Slo
from shoal.benchmarks.sim.reach import require_in_reach, share_in_reach
from shoal.benchmarks.sim.request import SimRequest
from shoal.benchmarks.sim.simulate import Scenario
from shoal.errors import ConfigError


def scenario(*lengths: tuple[int, int], slo: Slo) -> Scenario:
    """All of its requests come at once."""
    requests = [SimRequest(0.0, num_input, num_output) for num_input, num_output in lengths]
    return Scenario(name="mine", requests=requests, slo=slo)


def test_each_request_has_a_replica_of_its_own() -> None:
    slo = Slo(ttft_s=1.0, tpot_s=0.1)  # 512 prompt tokens take 0.1 s
    assert share_in_reach(scenario(*[(3000, 50)] * 40, slo=slo)) == 1.0
    assert share_in_reach(scenario(*[(3000, 50)] * 30, *[(9000, 50)] * 10, slo=slo)) == 0.75


def test_cached_tokens_take_no_time() -> None:
    cached = SimRequest(0.0, 9000, 50, num_cached_tokens=8000)
    one = Scenario(name="mine", requests=[cached], slo=Slo(ttft_s=1.0))
    assert share_in_reach(one) == 1.0


def test_further_tokens_count_too() -> None:
    assert share_in_reach(scenario((100, 50), (100, 1), slo=Slo(tpot_s=0.01))) == 0.5


def test_what_is_out_of_reach_is_refused_with_how_much_is() -> None:
    load = scenario((3000, 50), (9000, 50), slo=Slo(ttft_s=1.0))
    with pytest.raises(ConfigError, match=r"mine: on an idle replica 50.00% .* within 1 s"):
        require_in_reach(load, 0.99)
    require_in_reach(load, 0.5)
