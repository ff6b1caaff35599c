"""Traces of the core by torch's profiler: operators, kernels and copies on a time line."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from .profiler import ProfilerError


class TorchProfiler:
    """Implements `Profiler`. A trace is a gzipped JSON file in `folder` for ui.perfetto.dev."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: profile | None = None
        self._num_traces = 0

    def start(self) -> None:
        if self._running is not None:
            raise ProfilerError("a profile is being taken already; stop it first")
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        running = profile(activities=activities)
        running.start()
        self._running = running

    def stop(self) -> str:
        if self._running is None:
            raise ProfilerError("no profile is being taken; start one first")
        running, self._running = self._running, None
        running.stop()
        self._num_traces += 1
        path = self._folder / f"shoal-{os.getpid()}-{self._num_traces}.trace.json.gz"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            running.export_chrome_trace(str(path))
        except OSError as error:
            raise ProfilerError(f"the trace cannot be written: {error}") from error
        return str(path)
