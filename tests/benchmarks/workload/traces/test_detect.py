"""Formats by name and by their columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.benchmarks.workload.lengths import Fixed
from shoal.benchmarks.workload.traces.detect import FORMATS, detect, read_trace
from shoal.errors import ConfigError

SAMPLES = {
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,3,4\n",
    "mooncake": '{"timestamp": 0, "input_length": 3, "output_length": 4, "hash_ids": [0]}\n',
    "servegen": (
        "workload,client_id,window_start_s,rate_rps,cv,arrival_dist,shape,scale\n"
        "m,1,0,2,1,Gamma,1,0.5\n"
    ),
    "burstgpt": (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type,Session ID\n"
        "5,ChatGPT,3,4,7,API log,1\n"
    ),
    "table": "timestamp,input_length,output_length\n0,3,4\n",
}


def sample(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text(SAMPLES[name])
    return path


def test_there_is_a_sample_of_every_format() -> None:
    assert SAMPLES.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", SAMPLES)
def test_each_format_is_seen_from_its_columns(tmp_path: Path, name: str) -> None:
    path = sample(tmp_path, name)
    assert detect(path) == name
    for given in ("auto", name):
        rows = read_trace(path, given, fallback=(None, None), seed=0)
        if name == "servegen":
            assert rows.num_rows is None
            assert (rows.row(0).num_input_tokens, rows.row(0).num_output_tokens) == (512, 128)
        else:
            assert rows.num_rows == 1
            assert (rows.row(0).num_input_tokens, rows.row(0).num_output_tokens) == (3, 4)


def test_unknown_columns_are_refused_with_those_that_are_known(tmp_path: Path) -> None:
    path = tmp_path / "lengths.csv"
    path.write_text("num_prefill_tokens,num_decode_tokens\n1,2\n")
    with pytest.raises(ConfigError) as caught:
        detect(path)
    message = str(caught.value)
    assert "its columns are num_prefill_tokens, num_decode_tokens" in message
    assert all(name in message for name in (*FORMATS, "ContextTokens", "hash_ids", "arrival_time"))


@pytest.mark.parametrize("name", ["vllm", "", "azure:code", "auto:x", "servegen:"])
def test_unknown_formats_are_refused(tmp_path: Path, name: str) -> None:
    path = sample(tmp_path, "azure")
    with pytest.raises(ConfigError, match=rf"no trace format '{name}'; there are: auto, azure"):
        read_trace(path, name, fallback=(None, None), seed=0)


def test_a_service_of_servegen_is_part_of_the_format(tmp_path: Path) -> None:
    path = sample(tmp_path, "servegen")
    lengths = (Fixed(9), Fixed(8))
    row = read_trace(path, "servegen:m", fallback=lengths, seed=0).row(0)
    assert (row.num_input_tokens, row.num_output_tokens) == (9, 8)
    with pytest.raises(ConfigError, match="no service 'n'; it has: m"):
        read_trace(path, "servegen:n", fallback=lengths, seed=0)


@pytest.mark.parametrize("fallback", [(Fixed(9), None), (None, Fixed(9))])
def test_lengths_for_a_trace_that_has_them_are_refused(tmp_path: Path, fallback: object) -> None:
    with pytest.raises(ConfigError, match="gives the length of every request"):
        read_trace(sample(tmp_path, "azure"), "azure", fallback=fallback, seed=0)  # type: ignore[arg-type]
