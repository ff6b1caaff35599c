from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shoal.benchmarks.gpu.record import main, section

RUN: dict[str, Any] = {
    "gpu": "NVIDIA X", "torch": "2.11", "triton": "3.6", "seconds": 135,
    "floors": {"copy_gb_per_s": 2996, "tflop_per_s": {"bf16": 790}},
    "kernels": {
        "op/a": {
            "us": 10.0, "of_floor": 0.8, "target": 0.85, "rate": "1 GB/s",
            "peers_us": {"slow": 30.0, "fast": 20.0}, "ratio_to_best_peer": 2.0,
        },
        "op/b": {"us": 5.0, "of_floor": 0.9, "target": None, "rate": "2 GB/s", "peers_us": {},
                 "ratio_to_best_peer": None},
    },
    "engine": {
        "decode": [{"num_reqs": 64, "context": 2048, "step_ms": 12.4, "times_floor": 1.154}],
        "load": {"num_requests": 256, "prompt_len": 1024, "output_len": 128,
                 "output_tokens_per_s": 3554, "device_gap_us": 12.8},
        "transformers": {"failed": "ImportError: no"},
        "targets": {"times_floor": 1.25, "ratio_to_transformers": 3.0, "device_gap_us": 150},
    },
}  # fmt: skip


def test_misses_peers_and_failures_are_told() -> None:
    text = section(RUN)
    assert "| op/a | 10.0 | 80% | 85%, missed | 1 GB/s | fast 20.0 us, **2.00** |" in text
    assert "| op/b | 5.0 | 90% |  | 2 GB/s |  |" in text
    assert "1.15 times the floor | 1.25 |" in text
    assert "| transformers | ImportError: no | |" in text


def test_a_run_without_the_engine_has_no_section_of_it() -> None:
    assert "## Engine" not in section({k: v for k, v in RUN.items() if k != "engine"})


def test_the_section_is_written_where_others_stay(tmp_path: Path) -> None:
    page, run = tmp_path / "RESULTS.md", tmp_path / "gpu.json"
    page.write_text("<!-- begin: other -->\nkept\n<!-- end: other -->\n")
    peer = {"version": "5", "attention": "sdpa", "output_tokens_per_s": 264, "ratio": 13.46}
    run.write_text(json.dumps({**RUN, "engine": {**RUN["engine"], "transformers": peer}}))
    assert main([str(run), "--results", str(page)]) == 0
    text = page.read_text()
    assert "kept" in text
    assert "264 tokens/s: ours are 13.5 times as many | 3 times |" in text
