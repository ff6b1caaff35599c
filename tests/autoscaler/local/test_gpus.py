"""GPUs of workers."""

from __future__ import annotations

import pytest

from shoal.autoscaler.local.gpus import check_gpus, find_gpus, gpu_slots
from shoal.errors import ConfigError


@pytest.mark.parametrize(
    ("environ", "query", "found"),
    [
        ({"CUDA_VISIBLE_DEVICES": "2, GPU-5a,"}, ("false",), ("2", "GPU-5a")),
        ({"CUDA_VISIBLE_DEVICES": ""}, ("echo", "0"), ()),
        ({}, ("printf", "0\\n1\\n"), ("0", "1")),
        ({}, ("false",), ()),
        ({}, ("/no/such/nvidia-smi",), ()),
    ],
)
def test_which_there_are(
    environ: dict[str, str], query: tuple[str, ...], found: tuple[str, ...]
) -> None:
    assert find_gpus(environ, query) == found


def test_each_worker_has_its_own() -> None:
    slots = gpu_slots(["4", "5", "6", "7", "8"], 2)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["4,5", "6,7"]


def test_never_more_workers_than_places() -> None:
    gpus = ["0", "1", "2", "3"]
    assert check_gpus(gpus, gpus_per_worker=1, max_replicas=None) == 4
    assert check_gpus(gpus, gpus_per_worker=2, max_replicas=2) == 2
    with pytest.raises(ConfigError, match=r"--max is 3 .* has 4 GPUs \(0, 1, 2, 3\): at most 2"):
        check_gpus(gpus, gpus_per_worker=2, max_replicas=3)
    with pytest.raises(ConfigError, match="none found"):
        check_gpus([], gpus_per_worker=1, max_replicas=None)
