"""From the options of `shoal serve` to settings of the engine and its HTTP server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shoal.engine.config import EngineConfig, SupervisionConfig
from shoal.engine.server.settings import ServerSettings
from shoal.errors import ConfigError
from shoal.settings.key_file import read_keys

BYTES_PER_GIB = 1 << 30
BYTES_PER_MIB = 1 << 20


def engine_settings(options: Mapping[str, Any]) -> tuple[EngineConfig, ServerSettings]:
    """`options` as click has them, by the parameters of `serve.serve`. Raises ConfigError."""
    with _wrong_values_are_config_errors():
        config = EngineConfig(
            model=options["model"],
            served_model_name=options["served_model_name"],
            dtype=options["dtype"],
            quantization=options["quantization"],
            kv_cache_dtype=options["kv_cache_dtype"],
            load_format=options["load_format"],
            device=options["device"],
            num_threads=options["threads"],
            max_model_len=options["max_model_len"],
            kv_cache_bytes=_gib(options["kv_cache_gib"]),
            kv_offloading_bytes=_gib(options["kv_offloading_size"]),
            async_scheduling=options["async_scheduling"],
            gpu_memory_utilization=options["gpu_memory_utilization"],
            cuda_graphs=not options["no_cuda_graphs"],
            torch_profiler_dir=options["torch_profiler_dir"],
            nvtx=options["nvtx"],
            enable_prefix_caching=not options["no_prefix_caching"],
            max_num_seqs=options["max_num_seqs"],
            max_num_batched_tokens=options["max_num_batched_tokens"],
            itl_target_s=_ms(options["itl_target_ms"]),
            max_num_waiting=options["max_num_waiting"],
            queue_timeout_s=options["queue_timeout_s"] or None,
            kv_events_endpoint=options["kv_events_endpoint"],
            kv_events_replay_endpoint=options["kv_events_replay_endpoint"],
            supervision=SupervisionConfig(on_core_crash=options["on_core_crash"]),
        )
        settings = ServerSettings(
            host=options["host"],
            port=options["port"],
            api_keys=(*(options["api_key"] or ()), *_keys_of(options["api_key_file"])),
            cors_origins=tuple(options["cors_origin"] or ()),
            max_body_bytes=options["max_body_mib"] * BYTES_PER_MIB,
            drain_timeout_s=options["drain_timeout_s"],
        )
    return config, settings


def read_api_keys(path: Path | None) -> tuple[str, ...]:
    """The keys of `--api-key-file`. Raises ConfigError."""
    return read_keys(path, "--api-key-file")


@contextmanager
def _wrong_values_are_config_errors() -> Iterator[None]:
    """Settings check their values and raise ValueError; here they come from a person."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _keys_of(file: str | Path | None) -> tuple[str, ...]:
    return read_api_keys(None if file is None else Path(file))


def _gib(number: float | None) -> int | None:
    return None if number is None else int(number * BYTES_PER_GIB)


def _ms(number: float | None) -> float | None:
    return None if number is None else number / 1000
