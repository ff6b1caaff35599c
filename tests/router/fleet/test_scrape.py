"""Numbers out of metrics pages."""

from __future__ import annotations

import pytest

from shoal.metrics import parse_prometheus_text
from shoal.router.fleet.scrape import Numbers, PageReader

from .builders import page

SGLANG = b"""# HELP sglang:num_running_reqs The number of running requests
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="m",tp_rank="0"} 7.0
sglang:num_queue_reqs{model_name="m"} 2.0
sglang:token_usage{model_name="m"} 0.28
sglang:max_total_num_tokens{model_name="m"} 161721.0
sglang:page_size{model_name="m"} 64.0
sglang:generation_tokens_total{model_name="m"} 7.557572e+06
"""


def test_a_page_of_vllm() -> None:
    assert PageReader().read(page(running=5, generated=12.0)) == Numbers(
        num_requests_running=5,
        num_requests_waiting=3,
        kv_cache_usage=0.25,
        num_cache_tokens=1600,
        block_size=16,
        generation_tokens=12.0,
        process_start_time=1000.0,
    )


def test_a_page_of_sglang() -> None:
    assert PageReader().read(SGLANG) == Numbers(
        num_requests_running=7,
        num_requests_waiting=2,
        kv_cache_usage=0.28,
        num_cache_tokens=161721,
        block_size=64,
        generation_tokens=7557572.0,
    )


def test_an_old_name() -> None:
    assert PageReader().read(b'vllm:gpu_cache_usage_perc{a="b"} 0.5\n').kv_cache_usage == 0.5


def test_a_reader_follows_a_worker_that_becomes_another() -> None:
    reader = PageReader()
    assert reader.read(SGLANG).num_requests_running == 7
    assert reader.read(page(running=5)).num_requests_running == 5
    assert reader.read(SGLANG).num_requests_running == 7


def test_data_parallel_engines_add_up() -> None:
    numbers = PageReader().read(
        b'vllm:num_requests_running{engine="0"} 1.0\n'
        b'vllm:num_requests_running{engine="1"} 4.0\n'
        b'vllm:kv_cache_usage_perc{engine="0"} 0.2\n'
        b'vllm:kv_cache_usage_perc{engine="1"} 0.4\n'
        b'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="10"} 1\n'
        b'vllm:cache_config_info{block_size="16",engine="1",num_gpu_blocks="20"} 1\n'
    )
    assert numbers.num_requests_running == 5
    assert numbers.kv_cache_usage == pytest.approx(0.3)
    assert numbers.num_cache_tokens == 480


def test_a_longer_name_is_another_metric() -> None:
    numbers = PageReader().read(
        b'vllm:num_requests_waiting_by_reason{reason="a"} 9.0\n'
        b'vllm:num_requests_waiting{engine="0"} 1.0\n'
    )
    assert numbers.num_requests_waiting == 1
    assert (
        PageReader().read(b"vllm:num_requests_waiting_by_reason 9\n").num_requests_waiting is None
    )


@pytest.mark.parametrize(
    "line",
    [b"vllm:num_requests_running 4", b"vllm:num_requests_running\t4 1700000000000\n",
     b'# TYPE x gauge\nvllm:num_requests_running{model="a } b"} 4.0\n'],
)  # fmt: skip
def test_shapes_of_a_line(line: bytes) -> None:
    assert PageReader().read(line).num_requests_running == 4


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"vllm:num_requests_running",
        b"vllm:num_requests_running{",
        b"vllm:num_requests_running NaN\n",
        b"vllm:num_requests_running +Inf\n",
        b"vllm:num_requests_running many\n",
        b'vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1\n'[:-20],
        b"vllm:cache_config_info{\xff} 1\n",
    ],
)
def test_what_is_no_number_is_none(text: bytes) -> None:
    numbers = PageReader().read(text)
    assert numbers.num_requests_running is None
    assert numbers.num_cache_tokens is None


def test_a_cache_whose_size_is_not_known_yet() -> None:
    numbers = PageReader().read(
        b'vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1\n'
    )
    assert (numbers.num_cache_tokens, numbers.block_size) == (None, 16)


def test_a_size_in_tokens_is_better_than_one_in_blocks() -> None:
    line = (
        b'vllm:cache_config_info{block_size="16",kv_cache_size_tokens="999",num_gpu_blocks="9"} 1\n'
    )
    assert PageReader().read(line).num_cache_tokens == 999


def test_it_reads_what_a_full_parse_reads() -> None:
    text = page(running=11, generated=3.5)
    parsed = {sample.name: sample.value for sample in parse_prometheus_text(text.decode())}
    numbers = PageReader().read(text)
    assert numbers.num_requests_running == parsed["vllm:num_requests_running"]
    assert numbers.generation_tokens == parsed["vllm:generation_tokens_total"]
    assert numbers.process_start_time == parsed["process_start_time_seconds"]
