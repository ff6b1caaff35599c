from __future__ import annotations

import msgspec

from shoal.benchmarks.client.conversation import RequestForm
from shoal.benchmarks.client.messages import Load
from shoal.benchmarks.measure.record import RequestRecord
from shoal.benchmarks.measure.summary import CANCELLED, summarize
from shoal.benchmarks.result import ClientLoad
from shoal.benchmarks.settings import LoadTest
from shoal.benchmarks.verdicts import warnings_about
from shoal.benchmarks.workload.spec import WorkloadSpec
from tests.benchmarks.measure.builders import make_record

TEST = LoadTest(
    url="http://x", form=RequestForm(model="m"), workload=WorkloadSpec(), load=Load(concurrency=1)
)


def warnings(records: list[RequestRecord], *, cores: float = 0.1) -> list[str]:
    client = ClientLoad(processes=1, cpu_cores=[cores])
    return warnings_about(TEST, records, summarize(records, 1.0, None), client)


def test_all_is_well() -> None:
    records = [make_record(planned_output_tokens=3, planned_prompt_tokens=10)] * 5
    assert warnings(records) == []


def test_a_busy_client() -> None:
    (warning,) = warnings([make_record(5.0)], cores=0.9)
    assert "90%" in warning
    assert "--processes 2" in warning


def test_a_client_that_only_begins_and_ends_is_not_busy() -> None:
    assert warnings([make_record()], cores=1.4) == []


def test_a_late_client() -> None:
    (warning,) = warnings([make_record(1.0, sent_s=1.05)])
    assert "50 ms late" in warning


def test_requests_under_way_at_an_interruption() -> None:
    records = [make_record(), *(make_record(error=CANCELLED) for _ in range(3))]
    (warning,) = warnings(records)
    assert warning.startswith("3 requests were under way")


def test_answers_of_other_lengths() -> None:
    (warning,) = warnings([make_record(planned_output_tokens=n) for n in (3, 5)])
    assert warning.startswith("1 of 2 answers")


def test_answers_without_a_count() -> None:
    (warning,) = warnings([make_record(output_tokens=None)])
    assert "chunks were counted" in warning


def test_prompts_of_other_lengths() -> None:
    assert warnings([make_record(planned_prompt_tokens=100, prompt_tokens=130)]) == []
    (warning,) = warnings([make_record(planned_prompt_tokens=100, prompt_tokens=200)])
    assert "2.00 times" in warning


def test_failed_requests_have_no_lengths() -> None:
    assert warnings([make_record(planned_output_tokens=99, error="timeout")]) == []


def test_prompts_that_the_server_knew_before() -> None:
    (warning,) = warnings([make_record(prompt_tokens=10, cached_tokens=n) for n in (0, 8)])
    assert warning.startswith("40% of the prompt tokens")
    assert "--seed 1000" in warning


def test_a_few_tokens_that_prompts_have_in_common() -> None:
    assert warnings([make_record(prompt_tokens=100, cached_tokens=9)]) == []


def test_prompts_that_are_meant_to_share_their_beginning() -> None:
    test = msgspec.structs.replace(TEST, workload=WorkloadSpec(prefix_len="8"))
    records = [make_record(cached_tokens=8)]
    client = ClientLoad(processes=1, cpu_cores=[])
    assert warnings_about(test, records, summarize(records, 1.0, None), client) == []
