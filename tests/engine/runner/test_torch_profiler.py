from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from shoal.engine.runner.profiler import ProfilerError
from shoal.engine.runner.torch_profiler import TorchProfiler


def test_a_trace_has_the_operators_between_start_and_stop(tmp_path: Path) -> None:
    profiler = TorchProfiler(tmp_path / "made" / "when needed")
    paths = []
    for operator in (torch.sort, torch.cumsum):
        profiler.start()
        operator(torch.zeros(8), 0)
        paths.append(profiler.stop())
    assert len(set(paths)) == 2
    found = []
    for path in paths:
        events = json.loads(gzip.decompress(Path(path).read_bytes()))["traceEvents"]
        found.append({"aten::sort", "aten::cumsum"} & {event.get("name") for event in events})
    assert found == [{"aten::sort"}, {"aten::cumsum"}]


def test_one_profile_at_a_time(tmp_path: Path) -> None:
    profiler = TorchProfiler(tmp_path)
    with pytest.raises(ProfilerError, match="no profile is being taken"):
        profiler.stop()
    profiler.start()
    with pytest.raises(ProfilerError, match="stop it first"):
        profiler.start()
    profiler.stop()


def test_a_folder_that_cannot_be_written_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    profiler = TorchProfiler(tmp_path / "file" / "folder")
    profiler.start()
    with pytest.raises(ProfilerError, match="the trace cannot be written"):
        profiler.stop()
    profiler.start()  # and the next one may go elsewhere
    with pytest.raises(ProfilerError):
        profiler.stop()
